"""Every ONNX operator: imported and interpreted = onnxruntime, on random and edge inputs.

The rows are in tests/frontend/rows; each is run at every opset that changed the operator. This is
also a reference test of every tensor op.
"""

import zlib
from dataclasses import replace
from functools import cache, partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from mpcc.frontend import import_onnx
from mpcc.frontend.importer import Constant, Room
from mpcc.frontend.onnx.fold import FOLDABLE, evaluate, fold
from mpcc.frontend.onnx.interpret import DATA, interpret
from mpcc.frontend.onnx.loader import OPERATORS
from mpcc.frontend.onnx.model import MAX_OPSET
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from tests.frontend.models import model, node
from tests.frontend.rows import ROWS, quantised
from tests.frontend.rows.layers import conv
from tests.frontend.rows.table import Row, ints, weights
from tests.ir.samples import type_of

EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 2.0**-19, -(2.0**-19), 1e-30, 8.0, -8.0]
    + [283.6, 2.0**20]
)


def samples(row: Row):
    """Random inputs, then edge values spread over the inputs."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    if row.whole:
        for _ in range(3):
            yield {k: rng.integers(0, 3, s).astype(np.float32) for k, s in row.inputs.items()}
        return
    yield {k: rng.standard_normal(s).astype(np.float32) for k, s in row.inputs.items()}
    edges = np.clip(EDGES, -row.largest, row.largest)
    yield {k: rng.choice(edges, s).astype(np.float32) for k, s in row.inputs.items()}
    yield {k: np.full(s, -1.0, np.float32) for k, s in row.inputs.items()}


def runner(data: bytes, reference: bool):
    """A function from inputs to outputs, by onnxruntime or by ONNX's reference."""
    if reference:
        return lambda inputs: ReferenceEvaluator(onnx.load_from_string(data)).run(None, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options)
    return lambda inputs: session.run(None, inputs)


CASES = [pytest.param(r, o, id=f"{r.name}, opset {o}") for r in ROWS for o in r.opsets]


@pytest.mark.parametrize(("row", "opset"), CASES)
def test_equals_onnxruntime(row, opset):
    data = row.build(opset)
    imported = import_onnx(data)
    verify(imported.module, DIALECTS["tensor"])
    text = print_module(imported.module)
    assert print_module(parse_module(text, DIALECTS)) == text
    assert len(imported.disclosed) == row.disclosed
    run = runner(data, row.reference)
    for inputs in samples(row):
        have = real.run(imported.module, imported.constants, inputs)
        for port, want in zip(imported.outputs, run(inputs), strict=True):
            assert have[port.name].shape == want.shape == port.shape
            # Where the float model has an infinity or no number, so has this.
            finite = np.where(np.isfinite(want), want, 0).astype(np.float64)
            scale = max(1.0, float(np.abs(finite).max(initial=0)))
            np.testing.assert_allclose(
                have[port.name].astype(np.float64), want, rtol=1e-5, atol=2e-6 * scale
            )


FOLDED = [
    pytest.param(r, o, id=f"{r.name}, opset {o}")
    for r in ROWS
    for o in r.opsets
    if r.op in FOLDABLE and not r.before
]


@pytest.mark.parametrize(("row", "opset"), FOLDED)
def test_constants_give_the_same(row, opset):
    """The same nodes on constants alone, which are computed when the model is imported."""
    data = row.build(opset)
    (proto,) = (n for n in onnx.load_from_string(data).graph.node if n.name == f"the {row.op}")
    inputs = next(samples(row))
    known = {k: Constant(np.asarray(v), k) for k, v in {**inputs, **row.constants}.items()}
    compute = partial(interpret, OPERATORS[row.op], Room()) if row.op in DATA else evaluate
    results = fold(proto, opset, [known[n] if n else None for n in proto.input], compute)
    for result, want in zip(results, runner(data, row.reference)(inputs), strict=True):
        assert result.array.shape == want.shape
        assert result.derived
        np.testing.assert_allclose(result.array.astype(np.float64), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [pytest.param(r, id=r.name) for r in ROWS if not r.disclosed])
def test_no_pattern_depends_on_weights(row):
    """Zeros, ones and equal numbers give the same module as arbitrary weights."""

    def text(change) -> str:
        constants = {
            k: change(np.asarray(v)) if np.asarray(v).dtype.kind == "f" else v
            for k, v in row.constants.items()
        }
        if row.op == "Resize" or row.op == "Upsample":
            # An empty region of interest, and scales as an attribute.
            constants = row.constants
        return print_module(import_onnx(replace(row, constants=constants).build(opset)).module)

    opset = row.opsets[-1]
    want = text(lambda a: a)
    changes = [
        np.ones_like,
        lambda a: np.full_like(a, 0.5),
        lambda a: a[..., ::-1] if a.ndim else a,
    ]
    # Scales of zero divide by zero.
    if row.op not in ("Div", "BatchNormalization", *(r.op for r in quantised.ROWS)):
        changes.append(np.zeros_like)
    for change in changes:
        assert text(change) == want


def test_automatic_padding_counts_the_dilation():
    """The pads that ONNX defines; onnxruntime refuses the combination."""
    row = conv("", (1, 1, 9, 9), (1, 1, 3, 2), auto_pad="SAME_LOWER", dilations=[2, 3])
    (op,) = import_onnx(row.build(13)).module.main.walk("tensor.conv")
    assert op.attrs["pads"] == (2, 2, 2, 1)
    assert type_of(op.result).shape == (1, 1, 9, 9)


def test_the_table_has_every_operator_and_every_tensor_op():
    # These give constants only; test_onnx.py has them.
    assert {r.op for r in ROWS} == OPERATORS.keys() - {"Constant", "EyeLike", "Shape", "Size"}
    # Those of trees are in test_trees.py.
    seen = {"tensor.branch", "tensor.forest"}
    for row in ROWS:
        seen |= {op.name for op in import_onnx(row.build(row.opsets[-1])).module.main.ops}
    # Of calls only: tests/e2e/test_calls.py.
    assert seen == set(DIALECTS["tensor"].operations) - {"tensor.activation", "tensor.call"}


def test_slopes_per_channel_as_before_opset_7():
    """Converters leave the slope of a PRelu as [C]; numpy would not broadcast it."""
    row = Row("", "PRelu", {"x": (2, 3, 4)}, {"s": weights(3)})
    imported = import_onnx(row.build(7))
    inputs = next(samples(row))
    x, slope = inputs["x"], weights(3)[:, None]
    want = np.where(x > 0, x, slope * x)
    np.testing.assert_allclose(real.run(imported.module, imported.constants, inputs)["y"], want)


def test_empty_parts_vanish():
    """A rotary embedding of all channels splits off nothing, and concatenates it again."""
    nodes = [
        node("Split", ["x", "s"], ["a", "b"], axis=1),
        node("Slice", ["x", "end", "end", "axes"], ["c"]),
        node("Concat", ["a", "b", "c"], ["y"], axis=1),
    ]
    constants = {"s": ints(3, 0), "end": ints(3), "axes": ints(1)}
    imported = import_onnx(model(nodes, {"x": (2, 3)}, {"y": 2}, constants).SerializeToString())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(real.run(imported.module, {}, {"x": x})["y"], x)


COMPARED = 21
"""Up to this operator set every version is compared with onnxruntime by a row of its own."""


@cache
def versions() -> dict[str, set[int]]:
    """The operator sets that changed an operator, by its name; those that ended it are left out."""
    found: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain and schema.name in OPERATORS and not schema.deprecated:
            found.setdefault(schema.name, set()).add(schema.since_version)
    return found


def version(op: str, opset: int) -> int:
    """The version of an operator in an operator set; 0 before its first."""
    return max((v for v in versions()[op] if v <= opset), default=0)


def lasting(row: Row) -> bool:
    """Whether a row is of the version that was in force at ``COMPARED``, and of no ended one."""
    known = version(row.op, row.opsets[-1]) == version(row.op, COMPARED)
    return known and row.opsets[-1] <= COMPARED and not onnx.defs.get_schema(row.op).deprecated


def test_every_opset_is_tried():
    """A row per version of an operator that ONNX has changed, from opset 7 on."""
    for op in {r.op for r in ROWS}:
        rows = [r for r in ROWS if r.op == op]
        tried = {version(op, o) for r in rows for o in r.opsets}
        assert {v for v in versions()[op] if 7 < v <= COMPARED} <= tried, op
        # Of the others, test_newer_opsets_mean_the_same.
        ended = onnx.defs.get_schema(op).deprecated
        assert ended or max(tried) > COMPARED or any(map(lasting, rows)), op


@pytest.mark.parametrize("row", [pytest.param(r, id=r.name) for r in ROWS if lasting(r)])
def test_newer_opsets_mean_the_same(row):
    """All later changes were of types, of texts, or attributes with the old meaning as default.

    So a model gives the same program in every operator set from then on.
    """

    def made(opset):
        imported = import_onnx(row.build(opset))
        return print_module(imported.module), imported.constants, imported.disclosed

    text, constants, disclosed = made(row.opsets[-1])
    later = {v for v in versions()[row.op] if v > COMPARED} | {MAX_OPSET}
    for opset in sorted(later):
        again = made(opset)
        assert (again[0], again[2]) == (text, disclosed)
        assert again[1].keys() == constants.keys()
        for name, array in constants.items():
            np.testing.assert_array_equal(again[1][name], array)
