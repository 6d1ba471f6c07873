"""lower-tensor-to-secure: meaning, and that nothing but Phi and the architecture shows.

The texts of ``tests/golden/lower-tensor-to-secure`` are compared by ``test_golden.py``.
"""

from pathlib import Path

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.interp import fixed, real
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import Phi
from mpcc.ir.text import parse_module
from mpcc.ir.verify import verify
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights

DIALECTS = {"tensor": tensor.DIALECT, "secure": secure.DIALECT}
MARK = "// expected\n"
CASES = sorted((Path(__file__).parent.parent / "golden/lower-tensor-to-secure").glob("*.mpcc"))


def read(path):
    head, _, expected = path.read_text().partition(MARK)
    assert head.startswith("// "), "the first line says what the case shows"
    (phi,) = [x for x in head.splitlines() if x.startswith("// phi: ")]
    module = parse_module(head, DIALECTS, path.name)
    verify(module, tensor.DIALECT)
    return head, module, Phi.from_json(phi.removeprefix("// phi: ")), expected


def lowered(module, phi):
    result = build_secure(module, phi)
    verify(result, secure.DIALECT)
    return result


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_meaning(path):
    """Outputs agree with the float model up to what the formats of the case can hold."""
    _, module, phi, expected = read(path)
    if expected.startswith("// error: "):
        with pytest.raises(MpccError):
            lowered(module, phi)
        return
    rng = np.random.default_rng(3)
    constants = {
        op.attrs["name"]: rng.uniform(-1, 1, op.attrs["shape"])
        for op in module.main.walk("tensor.weight")
    }
    inputs = {
        op.attrs["name"]: rng.uniform(-2, 2, op.attrs["shape"])
        for op in module.main.walk("tensor.input")
    }
    result = lowered(module, phi)
    weights = encode_weights(constants, result)
    want = real.run(module, constants, inputs)
    for rounding in ("floor", "worst", "random"):
        have = fixed.run(result, weights, inputs, rounding)
        assert have.keys() == want.keys()
        for name, array in want.items():
            assert have[name].shape == array.shape
            assert np.abs(have[name] - array).max() < 32 * 2.0**-phi.frac


def case(name):
    (path,) = [p for p in CASES if p.stem == name]
    return read(path)


def test_secret_values_do_not_show_in_the_weights_file_format():
    _, module, phi, _ = case("conv_relu")
    result = lowered(module, phi)
    zeros = encode_weights({"w": np.zeros((2, 2, 1, 1)), "b": np.zeros(2)}, result)
    ones = encode_weights({"w": np.ones((2, 2, 1, 1)), "b": np.ones(2)}, result)
    assert [(k, v.dtype, v.shape) for k, v in zeros.items()] == [
        (k, v.dtype, v.shape) for k, v in ones.items()
    ]
    assert (ones["w"] == 1 << 12).all()
    assert (ones["b"] == 1 << 22).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"w": np.full((2, 2, 1, 1), 2.0)}, "E-weights-range: w does not fit"),
        ({"w": np.full((2, 2, 1, 1), np.nan)}, "E-weights-range: w does not fit"),
        ({"w": np.zeros((2, 2))}, "E-weights-shape: w is"),
        ({"w": None}, "E-weights-missing: no constant w"),
    ],
)
def test_weights_that_were_not_analysed_are_refused(change, text):
    _, module, phi, _ = case("conv_relu")
    constants = {"w": np.zeros((2, 2, 1, 1)), "b": np.zeros(2), **change}
    constants = {k: v for k, v in constants.items() if v is not None}
    with pytest.raises(MpccError, match=text):
        encode_weights(constants, lowered(module, phi))
