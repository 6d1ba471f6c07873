"""The graph of a real ResNet-50, as it was exported: compiled, and accepted by the leak checker."""

import pytest

from benchmarks.verify import REAL, measure, real_resnet50
from mpcc.frontend import import_onnx


@pytest.mark.slow
def test_the_leak_checker_accepts_a_real_resnet50():
    """53 convolutions with batch normalisations, 16 sums, 1000 classes; formats are declared.

    ``python -m benchmarks.verify --real`` prints the time.
    """
    imported = import_onnx(real_resnet50().SerializeToString())
    assert [p.shape for p in (*imported.inputs, *imported.outputs)] == [(1, 3, 224, 224), (1, 1000)]
    assert sum(1 for _ in imported.module.main.walk("tensor.conv")) == 53
    # A program that is refused raises.
    row = measure(REAL, lambda: imported.module)
    assert row.layers > 150
