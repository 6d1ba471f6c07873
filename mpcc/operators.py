"""The table of ONNX operators: what is supported, and what each costs under a protocol.

Costs are not written down here. A probe is a model of one node; it is imported, lowered and counted
like any other model, at a width of ``WIDTH`` bits, and what its node sends is divided by the number
of elements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from rich.table import Table
from rich.text import Text

from mpcc import cost as costs
from mpcc.accuracy import FRACTION, Accuracy, accuracies
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.frontend.onnx.model import MAX_OPSET, MIN_OPSET
from mpcc.frontend.onnx.support import Support, operators
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import Shape, element_count
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.protocols import lower_program, protocol_named
from mpcc.protocols.base import Protocol

__all__ = [
    "PROBES",
    "WIDTH",
    "Price",
    "Probe",
    "price",
    "prices",
    "probe_model",
    "table",
    "tables",
    "to_json",
]

WIDTH = 16
"""Every value x of a probe satisfies |x| < 2^WIDTH in units of its format."""

_FRACTION = 8
_BOUND = 2.0 ** (WIDTH - _FRACTION)
_IR_VERSION = 8
_NODE = "probe"

_SIDE = 64
_FLAT = (_SIDE, _SIDE)
_IMAGE = (1, 16, 16, 16)


@dataclass(frozen=True)
class Probe:
    """A model of one node, whose cost is divided by the elements of its first input.

    Attributes:
        inputs: shapes of computed operands, by name.
        constants: the other operands, by name.
        attrs: of the node.
        before: nodes that make operands of the inputs, and are not counted.
        operands: names in order; inputs, then constants by default.
        what: what is special about the probe, for the table.
        per_result: divide by the elements of the result instead.
        kind: ONNX's element type of the result.
        opset: version of the operator set; an operator may be gone from newer ones.
        more: element types of the further results.
    """

    inputs: Mapping[str, Shape] = field(default_factory=lambda: {"x": _FLAT})
    constants: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[onnx.NodeProto, ...] = ()
    operands: tuple[str, ...] = ()
    what: str = ""
    per_result: bool = False
    kind: int = onnx.TensorProto.FLOAT
    opset: int = 18
    more: tuple[int, ...] = (onnx.TensorProto.INT64,)


_BOOL, _INT32, _INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT32, onnx.TensorProto.INT64
_TWO = {"a": _FLAT, "b": _FLAT}
_POOL = {"x": _IMAGE}
_PAIR = {"kernel_shape": [2, 2], "strides": [2, 2]}
_ROWS = {"axes": np.array([1])}
_WEIGHT = np.full((_SIDE, _SIDE), 0.5, np.float32)
_LESS = (onnx.helper.make_node("Less", ["a", "b"], ["c"]),)
_BITS = (*_LESS, onnx.helper.make_node("Less", ["b", "a"], ["d"]))
_INSIDE = (onnx.helper.make_node("HardSigmoid", ["x"], ["c"]),)
_CHANNELS = np.full(16, 0.5, np.float32)
_KERNEL = np.full((16, 16, 3, 3), 0.5, np.float32)

_UINT8 = onnx.TensorProto.UINT8
_SCALED = {"s": np.float32(0.03), "z": np.uint8(100)}
_BYTES = (onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),)
_RESULT = {"ys": np.float32(0.3), "yz": np.uint8(100)}
_WHOLE = {"w": np.ones((_SIDE, _SIDE), np.int8)} | {"ws": np.float32(0.02), "wz": np.int8(0)}
_TAPS = {"w": np.ones((16, 16, 3, 3), np.uint8)} | {"ws": np.float32(0.02), "wz": np.uint8(0)}

_UNARY = Probe()
_BINARY = Probe(_TWO)
_COMPARISON = Probe(_TWO, kind=_BOOL)
_LOGIC = Probe(_TWO, before=_BITS, operands=("c", "d"), kind=_BOOL)
_REDUCE = Probe(constants=_ROWS, what=f"rows of {_SIDE}")

PROBES: Mapping[str, Probe] = {
    **dict.fromkeys(
        ("Abs", "Ceil", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu", "Neg", "Relu")
        + ("Round", "Shrink", "Sign", "ThresholdedRelu"),
        _UNARY,
    ),
    **dict.fromkeys(
        ("Acosh", "Asinh", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "Selu")
        + ("Sigmoid", "Sin", "Sinh", "Softplus", "Tanh"),
        Probe(opset=20),
    ),
    **dict.fromkeys(("Acos", "Asin"), Probe(before=_INSIDE, operands=("c",), what="within 1")),
    "Atan": Probe(before=_INSIDE, operands=("c",), what="within 1"),
    "Mish": Probe(opset=22),
    "SwiGLU": Probe(_TWO, opset=28),
    "Swish": Probe(opset=24),
    **dict.fromkeys(("Add", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum"), _BINARY),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _COMPARISON),
    **dict.fromkeys(("And", "Or", "Xor"), _LOGIC),
    **dict.fromkeys(
        ("ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
        + ("ReduceSumSquare", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
        _REDUCE,
    ),
    **dict.fromkeys(("Log", "Reciprocal", "Softsign", "Sqrt", "Tan"), _UNARY),
    **dict.fromkeys(("LogSoftmax", "LpNormalization", "Softmax"), Probe(what=f"rows of {_SIDE}")),
    "GroupNormalization": Probe(
        _POOL, dict.fromkeys("sb", _CHANNELS), {"num_groups": 4}, what="4 groups", opset=21
    ),
    "InstanceNormalization": Probe(_POOL, dict.fromkeys("sb", _CHANNELS), what="16 x 16"),
    "LRN": Probe(_POOL, attrs={"size": 5}, what="of 5"),
    "LayerNormalization": Probe(constants=dict.fromkeys("sb", _WEIGHT[0]), what=f"rows of {_SIDE}"),
    "MeanVarianceNormalization": Probe(attrs={"axes": [1]}, what=f"rows of {_SIDE}"),
    "RMSNormalization": Probe(constants={"s": _WEIGHT[0]}, what=f"rows of {_SIDE}", opset=23),
    **{
        op: Probe(
            {"x": (4, 1, 16)},
            {"w": np.full((1, 16 * n, 16), 0.1, np.float32)}
            | {"r": np.full((1, 16 * n, 16), 0.1, np.float32)},
            {"hidden_size": 16},
            what="4 steps of 16",
            per_result=True,
        )
        for op, n in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    },
    "Attention": Probe(
        dict.fromkeys("qkv", (1, 1, 16, 16)), what="16 x 16", per_result=True, opset=23
    ),
    "RotaryEmbedding": Probe(
        {"x": (1, 4, 16, 16)}, dict.fromkeys("cs", np.full((1, 16, 8), 0.5, np.float32)), opset=23
    ),
    "Gather": Probe(
        {"i": (_SIDE,)},
        {"t": _WEIGHT},
        before=(onnx.helper.make_node("Cast", ["i"], ["c"], to=_INT64),),
        operands=("t", "c"),
        what=f"secret ones of {_SIDE}",
        per_result=True,
    ),
    "ArgMax": Probe(attrs={"axis": 1}, what=f"rows of {_SIDE}", kind=_INT64),
    "ArgMin": Probe(attrs={"axis": 1}, what=f"rows of {_SIDE}", kind=_INT64),
    "AveragePool": Probe(_POOL, attrs=_PAIR, what="2 x 2"),
    "BatchNormalization": Probe(_POOL, dict.fromkeys("sbmv", _CHANNELS)),
    "Cast": Probe(attrs={"to": _INT32}, what="to integers", kind=_INT32),
    "CastLike": Probe(constants={"t": np.int32(0)}, what="to integers", kind=_INT32),
    "Clip": Probe(constants={"l": np.float32(0), "h": np.float32(6)}, what="two bounds"),
    "Conv": Probe(_POOL, {"w": _KERNEL}, {"pads": [1, 1, 1, 1]}, per_result=True),
    "ConvTranspose": Probe(_POOL, {"w": _KERNEL}, per_result=True),
    "CumSum": Probe(constants={"axis": np.array(1)}),
    "Div": Probe(_TWO, what="of two secrets"),
    "Einsum": Probe(_TWO, attrs={"equation": "ij,jk->ik"}, what="ij,jk->ik", per_result=True),
    "Gemm": Probe(constants={"w": _WEIGHT}, per_result=True),
    "GlobalAveragePool": Probe(_POOL),
    "GlobalLpPool": Probe(_POOL, attrs={"p": 1}),
    "GlobalMaxPool": Probe(_POOL, what="16 x 16"),
    "Hardmax": Probe(what=f"rows of {_SIDE}"),
    "LpPool": Probe(_POOL, attrs={**_PAIR, "p": 1}, what="2 x 2"),
    "MatMul": Probe(_TWO, per_result=True),
    "MaxPool": Probe(_POOL, attrs=_PAIR, what="2 x 2"),
    "Not": Probe(_TWO, before=_LESS, operands=("c",), kind=_BOOL),
    "OneHot": Probe(
        {"x": (_SIDE,)},
        {"d": np.array(8), "v": np.array([0, 1], np.float32)},
        what="depth 8",
        per_result=True,
    ),
    "Pow": Probe(constants={"e": np.float32(2)}, what="squares"),
    "Resize": Probe(
        _POOL,
        {"s": np.array([1, 1, 2, 2], np.float32)},
        {"mode": "linear"},
        operands=("x", "", "s"),
        what="linear",
        per_result=True,
    ),
    "ConvInteger": Probe(
        _POOL,
        _SCALED | {"w": _TAPS["w"]},
        before=_BYTES,
        operands=("q", "w"),
        per_result=True,
        kind=_INT32,
    ),
    "DequantizeLinear": Probe(constants=_SCALED, before=_BYTES, operands=("q", "s", "z")),
    "DynamicQuantizeLinear": Probe(kind=_UINT8, more=(onnx.TensorProto.FLOAT, _UINT8)),
    "MatMulInteger": Probe(
        constants=_SCALED | {"w": _WHOLE["w"]},
        before=_BYTES,
        operands=("q", "w"),
        per_result=True,
        kind=_INT32,
    ),
    "QLinearConv": Probe(
        _POOL,
        _SCALED | _TAPS | _RESULT,
        before=_BYTES,
        operands=("q", "s", "z", *_TAPS, *_RESULT),
        per_result=True,
        kind=_UINT8,
    ),
    "QLinearMatMul": Probe(
        constants=_SCALED | _WHOLE | _RESULT,
        before=_BYTES,
        operands=("q", "s", "z", *_WHOLE, *_RESULT),
        per_result=True,
        kind=_UINT8,
    ),
    "QuantizeLinear": Probe(constants=_SCALED, kind=_UINT8),
    "TopK": Probe({"x": (_SIDE, 16)}, {"k": np.array([2])}, what="2 of 16"),
    "Upsample": Probe(
        _POOL,
        {"s": np.array([1, 1, 2, 2], np.float32)},
        {"mode": "linear"},
        what="linear",
        per_result=True,
        opset=9,
    ),
    "Where": Probe(_TWO, before=_LESS, operands=("c", "a", "b")),
}
"""Operator -> probe, for all that may send messages; the others only move elements."""


@dataclass(frozen=True)
class Price:
    """What an operator costs online.

    Attributes:
        bytes_per_element: payload bytes over all links, per element.
        rounds: longest chain of its messages.
        per: ``operand`` or ``result``: whose elements.
        what: what is special about the probe; empty if nothing.
    """

    bytes_per_element: float
    rounds: int
    per: str
    what: str


def probe_model(op: str, probe: Probe, after: bool = True) -> bytes:
    """The probe's node, and a Relu that asks for its result as a layer after it would.

    ``after``: whether there is the Relu.
    """
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    operands = list(probe.operands or (*probe.inputs, *probe.constants))
    schema = onnx.defs.get_schema(op, probe.opset)
    results = ["result", *(f"more{i}" for i in range(1, schema.min_output))]
    nodes = [*probe.before, helper.make_node(op, operands, results, name=_NODE, **probe.attrs)]
    kinds = dict(zip(results, (probe.kind, *probe.more), strict=False))
    if probe.kind == float_ and after:
        nodes.append(helper.make_node("Relu", ["result"], ["y"], name="after"))
        kinds["y"] = kinds.pop("result")
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(k, float_, s) for k, s in probe.inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in probe.constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", probe.opset)])
    made.ir_version = _IR_VERSION
    data: bytes = made.SerializeToString()
    return data


def price(op: str, probe: Probe, protocol: Protocol) -> Price:
    """Count a probe.

    Raises:
        MpccError: the operator cannot be imported or lowered.
    """
    imported = import_onnx(probe_model(op, probe))
    module = Manager(pipeline.TENSOR).run(imported.module)
    names = [port.name for port in imported.inputs]
    formats = FormatOptions(
        disclose="none",
        fraction_bits=_FRACTION,
        value_range=_BOUND - 1.0,
        weight_range=_BOUND - 1.0,
        input_ranges=dict.fromkeys(names, (1.0 - _BOUND, _BOUND - 1.0)),
        ring=64,
    )
    secure = Manager(pipeline.to_secure(declared_phi(module, formats), formats)).run(module)
    lower = pipeline.to_party(lambda level: lower_program(level, protocol).party)
    counted = costs.count(Manager(lower).run(secure))
    # A probe that only moves elements has no layer of its own.
    own = [layer.online for layer in counted.layers if layer.name == _NODE]
    nbytes, rounds = sum(c.total_bytes for c in own), sum(c.rounds for c in own)
    shape = imported.outputs[0].shape if probe.per_result else next(iter(probe.inputs.values()))
    per = "result" if probe.per_result else "operand"
    return Price(nbytes / element_count(shape), rounds, per, probe.what)


def prices(protocol: str = "rep3") -> dict[str, Price]:
    """Costs of all operators that have a probe.

    Raises:
        MpccError: there is no such protocol, or a probe cannot be lowered.
    """
    chosen = protocol_named(protocol)
    return {op: price(op, probe, chosen) for op, probe in PROBES.items()}


def table(protocol: str = "rep3") -> list[tuple[Support, Price | None]]:
    """All operators of ONNX with what they cost, if they send anything.

    Raises:
        MpccError: as :func:`prices`.
    """
    found = prices(protocol)
    return [(s, None if s.domain else found.get(s.name)) for s in operators()]


def to_json(protocol: str = "rep3") -> list[dict[str, Any]]:
    """The table as JSON values: the fields of :class:`Support`, ``cost`` and ``error`` or null.

    ``error`` is of smooth functions: proved and measured, at ``fraction_bits``.

    Raises:
        MpccError: as :func:`prices`.
    """
    errors = accuracies()
    return [
        dataclasses.asdict(s)
        | {"cost": None if p is None else dataclasses.asdict(p)}
        | {"error": None if s.domain else _error_json(errors.get(s.name))}
        for s, p in table(protocol)
    ]


def _error_json(error: Accuracy | None) -> dict[str, float | int] | None:
    return None if error is None else dataclasses.asdict(error) | {"fraction_bits": FRACTION}


def tables(protocol: str = "rep3") -> list[Table]:
    """The table for people, in two: what is supported, and what is not.

    Raises:
        MpccError: as :func:`prices`.
    """
    good = Table(
        title=f"ONNX operators on computed values, opset {MIN_OPSET} to {MAX_OPSET}; costs: "
        f"{protocol}, over all links, values of {WIDTH} bits"
    )
    bad = Table(title="ONNX operators that are not supported on computed values")
    for shown in (good, bad):
        shown.add_column("ONNX operator", no_wrap=True)
    for column in ("supported", "bytes per element", "rounds", f"error, 2^-{FRACTION}"):
        good.add_column(column)
    errors = accuracies()
    for column in ("why not", "instead"):
        bad.add_column(column)
    family = ""
    for s, p in sorted(table(protocol), key=lambda row: (row[0].family, row[0].name)):
        name = f"{s.domain}.{s.name}" if s.domain else s.name
        shown = good if s.status in ("yes", "partly") else bad
        if s.family != family:
            shown.add_section()
            shown.add_row(Text(s.family, "bold"))
            family = s.family
        if shown is good:
            shown.add_row(
                name,
                s.note + (f"; not: {s.refused}" if s.refused else ""),
                *_shown(p),
                _error(None if s.domain else errors.get(s.name)),
            )
        else:
            why = "only on constants" if s.status == "constants" else s.note
            shown.add_row(name, why, s.refused)
    return [good, bad]


def _error(error: Accuracy | None) -> str:
    """Proved and measured, in units of the format."""
    if error is None:
        return ""
    proved, measured = (e * 2.0**FRACTION for e in (error.proved, error.measured))
    return f"< {proved:.2f}, saw {measured:.2f}"


def _shown(p: Price | None) -> tuple[str, str]:
    if p is None or (p.bytes_per_element == 0 and p.rounds == 0):
        return "0", "0"
    of = " of the result" if p.per == "result" else ""
    what = f" ({p.what})" if p.what else ""
    return f"{p.bytes_per_element:.4g}{of}{what}", str(p.rounds)
