"""Shapes are public, so no weight may decide one, and no small model may ask for a huge constant.

Every operator that is folded has a sample here. ONNX's own shape inference says which operands
decide the shape of its result: where a value is not given and the result has no static shape, that
value does.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.importer import Constant, Disclosed, Unsupported
from mpcc.frontend.onnx import sizes
from mpcc.frontend.onnx.fold import FOLDABLE, fold
from mpcc.frontend.onnx.sizes import MAX_FOLDED, SHAPING
from mpcc.ir.text import print_module
from tests.frontend.models import model, node

F = np.float32


@dataclass(frozen=True)
class Sample:
    """A node: operands with their values, and other values per operand that fit too."""

    op: str
    operands: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    others: dict[int, Any] = field(default_factory=dict)
    opset: int = 18

    def arrays(self) -> list[np.ndarray | None]:
        return [None if o is None else np.asarray(o) for o in self.operands]

    def proto(self) -> onnx.NodeProto:
        names = [f"v{i}" if o is not None else "" for i, o in enumerate(self.operands)]
        results = ["r", "i"] if self.op == "TopK" else ["r"]
        return helper.make_node(self.op, names, results, name="the node", **self.attrs)


def real(*shape: int) -> np.ndarray:
    return np.linspace(0.25, 2.0, int(np.prod(shape))).astype(F).reshape(shape)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def one(number: int) -> np.ndarray:
    return np.array(number, np.int64)


_UNARY = """
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish
Hardmax Identity IsInf IsNaN LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shape Shrink Sigmoid
Sign Sin Sinh Size Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Transpose EyeLike Flatten
LpNormalization
"""
_BINARY = """
Add Div Equal Greater GreaterOrEqual Less LessOrEqual MatMul Max Mean Min Mul Pow PRelu Sub Sum
"""
UNARY, BINARY = _UNARY.split(), _BINARY.split()
REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare Sum".split()  # noqa: SIM905
POOLS = ("AveragePool", "LpPool", "MaxPool")
IMAGE = real(1, 4, 4, 4)
BITS = np.array([[True, False], [True, True]])
WHOLE = np.arange(1, 5, dtype=np.uint8).reshape(2, 2)

SAMPLES = [
    *(Sample(op, (real(3, 3),)) for op in UNARY),
    *(Sample(op, (real(3, 3), real(3, 3))) for op in BINARY),
    *(Sample(op, (BITS, BITS)) for op in ("And", "Or", "Xor")),
    *(Sample(f"Bitwise{op}", (WHOLE, WHOLE)) for op in ("And", "Or", "Xor")),
    *(Sample(op, (IMAGE,)) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    *(Sample(f"Reduce{op}", (real(2, 3), ints(1)), {}, {1: ints(0)}) for op in REDUCTIONS),
    *(Sample(op, (one(9),), {}, {0: one(10)})
      for op in ("BlackmanWindow", "HammingWindow", "HannWindow")),
    *(Sample(op, (IMAGE,), {"kernel_shape": [2, 2]}) for op in POOLS),
    *(Sample(op, (real(3, 3),), {"axis": 0}) for op in ("ArgMax", "ArgMin")),
    Sample("BatchNormalization", (IMAGE, *[real(4)] * 4)),
    Sample("BitShift", (WHOLE, WHOLE), {"direction": "LEFT"}),
    Sample("BitwiseNot", (WHOLE,)),
    Sample("Cast", (real(2),), {"to": 7}),
    Sample("CastLike", (real(2), one(1))),
    Sample("CenterCropPad", (real(2, 3), ints(2, 3)), {}, {1: ints(3, 3)}),
    Sample("Clip", (real(2), F(0.5), F(1.0))),
    Sample("Compress", (real(4), np.array([True, False, True, False])), {},
           {1: np.array([True, True, True, False])}),
    Sample("Concat", (real(2), real(2)), {"axis": 0}),
    Sample("ConstantOfShape", (ints(3, 2),), {}, {0: ints(4, 2)}),
    Sample("Conv", (IMAGE, real(2, 4, 3, 3), real(2))),
    Sample("ConvTranspose", (IMAGE, real(4, 2, 3, 3), real(2))),
    Sample("CumSum", (real(3), one(0))),
    Sample("DepthToSpace", (IMAGE,), {"blocksize": 2}),
    Sample("DequantizeLinear", (WHOLE, F(0.5), np.uint8(1))),
    Sample("Det", (real(2, 2),)),
    Sample("Einsum", (real(2, 3), real(3, 2)), {"equation": "ij,jk->ik"}),
    Sample("Expand", (real(1, 2), ints(3, 2)), {}, {1: ints(4, 2)}),
    Sample("Gather", (real(3), ints(0, 1))),
    Sample("GatherElements", (real(3), ints(0, 1))),
    Sample("GatherND", (real(3, 2), np.array([[0], [1]]))),
    Sample("Gelu", (real(2),), {}, {}, 20),
    Sample("Gemm", (real(2, 3), real(3, 2), real(2))),
    Sample("InstanceNormalization", (IMAGE, real(4), real(4))),
    Sample("LRN", (IMAGE,), {"size": 3}),
    Sample("LayerNormalization", (real(2, 3), real(3), real(3))),
    Sample("MelWeightMatrix", (one(8), one(16), one(8000), F(0), F(2000)), {},
           {0: one(9), 1: one(18)}),
    Sample("Mod", (ints(3, 4), ints(2, 2))),
    Sample("NonZero", (np.array([1, 0, 2, 3]),), {}, {0: np.array([1, 5, 2, 3])}),
    Sample("Not", (BITS,)),
    Sample("OneHot", (ints(0, 1), one(3), real(2)), {}, {1: one(4)}),
    Sample("Pad", (real(2, 2), ints(0, 1), F(0.5), ints(1)), {}, {1: ints(0, 2)}),
    Sample("Pad", (real(2, 3), ints(1, 0), None, ints(1)), {}, {3: ints(0)}),
    Sample("QuantizeLinear", (real(3), F(0.5), np.uint8(1))),
    Sample("Range", (one(0), one(6), one(1)), {}, {0: one(1), 1: one(7), 2: one(2)}),
    Sample("Range", (F(0), F(6), F(1)), {}, {0: F(1), 1: F(7), 2: F(2)}),
    Sample("Reshape", (real(6), ints(2, 3)), {}, {1: ints(3, 2)}),
    Sample("Resize", (IMAGE, None, np.array([1, 1, 2, 2], F)), {}, {2: np.array([1, 1, 3, 2], F)}),
    Sample("Resize", (IMAGE, None, None, ints(1, 4, 2, 2)), {}, {3: ints(1, 4, 3, 2)}),
    Sample("ReverseSequence", (real(2, 3), ints(2, 2, 1))),
    Sample("ScatterElements", (real(3), ints(0, 1), real(2))),
    Sample("ScatterND", (real(3), np.array([[0], [1]]), real(2))),
    Sample("Slice", (real(4, 3), ints(0), ints(3), ints(0), ints(1)), {},
           {1: ints(1), 2: ints(2), 3: ints(1), 4: ints(2)}),
    Sample("SpaceToDepth", (IMAGE,), {"blocksize": 2}),
    Sample("Split", (real(4), ints(4)), {}, {1: ints(5)}),
    Sample("Squeeze", (real(1, 1, 3), ints(0)), {}, {1: ints(0, 1)}),
    Sample("Tile", (real(2, 2), ints(1, 2)), {}, {1: ints(1, 3)}),
    Sample("TopK", (real(4), ints(2)), {}, {1: ints(3)}),
    Sample("Trilu", (real(3, 3), one(1))),
    Sample("Unique", (np.array([1, 1, 2]),), {}, {0: np.array([1, 3, 2])}),
    Sample("Unsqueeze", (real(3), ints(0)), {}, {1: ints(0, 1)}),
    Sample("Upsample", (IMAGE, np.array([1, 1, 2, 2], F)), {}, {1: np.array([1, 1, 3, 2], F)}, 9),
    Sample("Where", (BITS, real(2, 2), real(2, 2))),
]  # fmt: skip

PLACES = [
    pytest.param(s, i, id=f"{s.op} {n} input {i}")
    for n, s in enumerate(SAMPLES)
    for i, operand in enumerate(s.operands)
    if operand is not None
]


def is_static(sample: Sample, index: int | None = None) -> bool:
    """Whether ONNX's shape inference knows the result's shape without an operand's value."""
    arrays = {f"v{i}": a for i, a in enumerate(sample.arrays()) if a is not None}
    name = f"v{index}"
    free = {} if index is None else {name: arrays.pop(name)}
    graph = helper.make_graph(
        [sample.proto()],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in free.items()
        ],
        [onnx.ValueInfoProto(name="r")],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", sample.opset)])
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True).graph.output[0]
    dims = inferred.type.tensor_type.shape.dim
    known = inferred.type.tensor_type.HasField("shape")
    return known and all(d.HasField("dim_value") for d in dims)


def test_every_foldable_operator_has_a_sample():
    assert {s.op for s in SAMPLES} == FOLDABLE
    assert SHAPING.keys() <= FOLDABLE


@pytest.mark.parametrize(("sample", "index"), PLACES)
def test_the_table_is_what_onnx_infers(sample, index):
    if is_static(sample):
        assert is_static(sample, index) == (index not in SHAPING.get(sample.op, ()))
    else:
        # Not even all values tell ONNX the shape.
        assert sample.op in ("Compress", "NonZero", "Unique")


def tried(sample: Sample, index: int, value: Any) -> str:
    """The program of a model that takes one operand from weights, and uses the result's size.

    What a refusal or a disclosure says is no secret's: the model owner alone sees the one, and the
    other is listed.
    """
    arrays = sample.arrays()
    value = np.asarray(value)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    # Computed from weights, exactly: a product by one.
    nodes = [
        node("Mul", ["w", "unit"], ["product"]),
        node("Cast", ["product"], [f"v{index}"], to=kind),
        sample.proto(),
        node("Size", ["r"], ["n"]),
        node("Reshape", ["n", "list"], ["count"]),
        node("Tile", ["x", "count"], ["y"]),
    ]
    constants = {f"v{i}": a for i, a in enumerate(arrays) if a is not None and i != index}
    constants |= {"w": value.astype(F), "unit": F(1), "list": ints(1)}
    made = model(nodes, {"x": (1,)}, {"y": 1}, constants, sample.opset)
    try:
        return print_module(import_onnx(made.SerializeToString()).module)
    except MpccError as error:
        if {d.code for d in error.diagnostics} <= {"E-import-unsupported", "E-import-shape"}:
            return "refused"
        raise


#: Operators whose other shapes have as many elements, or that take one shape only in a model.
SAME_SIZE = {"Reshape", "Squeeze", "Unsqueeze", "Split"}


def deciding(*left_out: str):
    """Every operand that decides a shape, with another value; but those of some operators."""
    return [
        pytest.param(s, i, other, id=f"{s.op} {n} input {i}")
        for n, s in enumerate(SAMPLES)
        if s.op not in left_out
        for i, other in s.others.items()
    ]


@pytest.mark.parametrize(("sample", "index"), PLACES)
def test_no_weight_shows_in_a_shape(sample, index):
    """Another value where the sample has one, arbitrary ones elsewhere."""
    value = sample.arrays()[index]
    other = sample.others.get(index, value[..., ::-1] if value.ndim else value + value)
    first, second = tried(sample, index, value), tried(sample, index, other)
    assert first == second
    assert (first == "refused") or index not in SHAPING.get(sample.op, ())


def test_every_deciding_operand_has_another_value():
    have = {(s.op, i) for s in SAMPLES for i in s.others}
    # The region of a Resize decides only in a mode that no other test needs.
    assert {(op, i) for op, listed in SHAPING.items() for i in listed} - have == {("Resize", 1)}


@pytest.mark.parametrize(("sample", "index", "other"), deciding(*SAME_SIZE))
def test_without_the_rule_it_would_show(sample, index, other, monkeypatch):
    monkeypatch.setattr(sizes, "SHAPING", {})
    first, second = (tried(sample, index, v) for v in (sample.arrays()[index], other))
    assert "refused" not in (first, second)
    assert first != second


@pytest.mark.parametrize(("sample", "index", "other"), deciding())
def test_what_is_given_directly(sample, index, other):
    """Integers are public by kind; floats and masks that decide a shape are disclosed."""
    for value in (sample.operands[index], other):
        listed: list[Disclosed] = []
        arrays = sample.arrays()
        arrays[index] = np.asarray(value)
        given = [None if a is None else Constant(a, "c") for a in arrays]
        with np.errstate(all="ignore"):
            fold(sample.proto(), sample.opset, given, disclose=listed.append)
        if arrays[index].dtype.kind in "fb":
            assert listed
            assert all(d.op == sample.op and d.node == "the node" for d in listed)
        else:
            assert not [d for d in listed if d.number is None]


def test_values_of_weights_without_a_cast():
    for op in ("NonZero", "Unique"):
        with pytest.raises(Unsupported, match="computed from weights, and would be public"):
            fold(helper.make_node(op, ["v"], ["r"]), 18, [Constant(real(3), "v")])


# --- sizes ---------------------------------------------------------------------------------------

BIG = 400_000_000
HUGE = [
    Sample("HannWindow", (one(BIG),)),
    Sample("HammingWindow", (one(BIG),)),
    Sample("BlackmanWindow", (one(BIG),)),
    Sample("CenterCropPad", (real(4), ints(BIG))),
    Sample("MelWeightMatrix", (one(8), one(BIG), one(8000), F(0), F(4000))),
    Sample("MelWeightMatrix", (one(BIG), one(8), one(8000), F(0), F(4000))),
    Sample("Conv", (real(1, 1, 1, 1), real(1, 1, 1, 1)), {"pads": [0, BIG, 0, 0]}),
    Sample("Conv", (real(1, 1, 1, 1), real(1, 1, 1, 1)),
           {"pads": [0, 0, 0, BIG], "strides": [1, BIG]}),
    Sample("Conv", (real(1, 1, 64, 64), real(1, 1, 64, 64)),
           {"auto_pad": "SAME_UPPER", "dilations": [BIG, 1]}),
    Sample("Conv", (real(1, 1, 512, 512), real(1, 1, 256, 256))),
    Sample("ConvTranspose", (real(1, 1, 2, 2), real(1, 1, 1, 1)), {"strides": [BIG, 1]}),
    Sample("ConvTranspose", (real(1, 1, 2, 2), real(1, 1, 2, 1)), {"dilations": [BIG, 1]}),
    Sample("ConvTranspose", (real(1, 1, 1, 1), real(1, 1, 1, 1)), {"output_shape": [BIG, 1]}),
    *(Sample(op, (real(1, 1, 1, 1),), {"kernel_shape": [1, 1], "pads": [0, BIG, 0, 0]})
      for op in POOLS),
    *(Sample(op, (real(1, 1, 1, 1),), {"kernel_shape": [1, BIG], "pads": [0, BIG - 1, 0, 0]})
      for op in POOLS),
    Sample("Pad", (real(4), ints(0, BIG)), {"mode": "reflect"}),
    Sample("Resize", (real(1, 1, 2, 2), None, np.array([1, 1, BIG, 1], F))),
    Sample("Resize", (real(1, 1, 2, 2), None, None, ints(1, 1, BIG, 2))),
    Sample("Resize", (real(1, 1, 1, 5000), None, None, ints(1, 1, 1, 5001))),
    Sample("Expand", (real(1), ints(BIG, 1))),
    Sample("Gather", (real(1, 5000), np.zeros(5000, np.int64))),
    Sample("GatherND", (real(1, 5000), np.zeros((5000, 1), np.int64))),
    Sample("Gemm", (real(5000, 1), real(1, 5000))),
    Sample("MatMul", (real(5000, 1), real(1, 5000))),
    Sample("Einsum", (real(5000), real(5000)), {"equation": "i,j->ij"}),
]  # fmt: skip


@pytest.mark.parametrize("sample", [pytest.param(s, id=f"{s.op} {i}") for i, s in enumerate(HUGE)])
def test_small_models_do_not_make_huge_constants(sample):
    nodes = [sample.proto(), node("ReduceSum", ["r"], ["s"], keepdims=0),
             node("Mul", ["x", "s"], ["y"])]  # fmt: skip
    constants = {f"v{i}": a for i, a in enumerate(sample.arrays()) if a is not None}
    data = model(nodes, {"x": (1,)}, {"y": 1}, constants, sample.opset).SerializeToString()
    tracemalloc.start()
    try:
        with pytest.raises(MpccError, match=f"a constant of more than {MAX_FOLDED} elements") as e:
            import_onnx(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
    assert e.value.code == "E-import-unsupported"
    assert "the node" in str(e.value)


def test_the_limit_is_of_what_is_added_to_the_file(monkeypatch):
    """Constants that are in the file may be larger, and so may what has no more elements."""
    monkeypatch.setattr(sizes, "MAX_FOLDED", 8)
    x = Constant(real(3, 4), "x")
    for op, attrs, others in (
        ("Transpose", {}, ()),
        ("Relu", {}, ()),
        ("Gemm", {}, (real(4, 4),)),
        ("Einsum", {"equation": "ij,kj->ik"}, (real(3, 4),)),
        ("Gather", {"axis": 0}, (ints(2, 0),)),
        ("Concat", {"axis": 0}, (real(1, 4),)),
        ("Expand", {}, (ints(3, 4),)),
    ):
        given = [x, *(Constant(o, "o") for o in others)]
        names = [f"v{i}" for i in range(len(given))]
        (result,) = fold(helper.make_node(op, names, ["r"], **attrs), 18, given)
        assert result.array.size > 8 or op == "Einsum" or op == "Gather"
