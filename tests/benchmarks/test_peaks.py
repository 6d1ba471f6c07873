import numpy as np
import pytest

from benchmarks import peaks
from mpcc import _native


@pytest.mark.parametrize("ring", [64, 32])
def test_the_timed_product_is_the_ring_product(ring):
    dtype = np.uint64 if ring == 64 else np.uint32
    a, b = np.random.default_rng(1).integers(0, 2**ring, (2, 9, 9), dtype)
    (found,) = _native.evaluate_op(peaks._product(9, ring), 2, [a.tobytes(), b.tobytes()], {})
    assert np.array_equal(np.frombuffer(found, dtype).reshape(9, 9), a @ b)


def test_a_short_measurement():
    # What runs on this machine decides the rates; that there are some is all that can be tested.
    found = peaks.measure(seconds=0.0, count=256 << 10)
    assert found.cores >= 1
    assert min(found.multiply_adds_64, found.multiply_adds_32, found.tls_bytes) > 0


def test_a_process_that_dies_is_noticed():
    with pytest.raises(RuntimeError, match="without a result"):
        peaks._all_at_once(_die, [()])


def _die(barrier):
    raise SystemExit(3)
