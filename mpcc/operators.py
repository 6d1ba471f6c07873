"""The table of ONNX operators: what is supported, and what each costs under a protocol.

A probe is a model of one node; it is imported, lowered and counted like any other model, at a width
of ``WIDTH`` bits, and what its node sends is divided by the number of elements. Parties have the
roles that take fewest rounds, as in a program whose links are balanced.

Counting all probes takes many seconds, so the figures lie in ``operator_prices.json`` beside this
module. ``python -m mpcc.operators`` counts them anew; a test holds every one against a fresh count.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
from mpcc.protocols.roles import LinkBalance

__all__ = [
    "FILE",
    "ML_PROBES",
    "PROBES",
    "PROTOCOL",
    "WIDTH",
    "Price",
    "Probe",
    "counted",
    "price",
    "prices",
    "probe_model",
    "table",
    "tables",
    "to_json",
]

FILE = Path(__file__).with_name("operator_prices.json")
"""The counted prices, as JSON by operator."""

PROTOCOL = "rep3"
"""The protocol of the table."""

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
        domain: of the operator; the operator set is ``opset`` in the default domain.
        since: version of the operator set in the other domain.
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
    domain: str = ""
    since: int = 3


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


_ML = "ai.onnx.ml"
_COLUMNS = 16
_ROWS_OF_16 = {"x": (_SIDE, _COLUMNS)}
_SUPPORTS = 8


def _classical(what: str = "", label: bool = False, **attrs: Any) -> Probe:
    """A probe of ai.onnx.ml on rows of 16 features; ``label``: it gives one beside scores."""
    probe = Probe(_ROWS_OF_16, attrs=attrs, what=what, domain=_ML)
    if not label:
        return probe
    return dataclasses.replace(probe, kind=_INT64, more=(onnx.TensorProto.FLOAT,))


def _stump(outputs: str) -> dict[str, Any]:
    """A tree of three conditions and four leaves for one target or class."""
    leaves = [3, 4, 5, 6]
    return {
        "nodes_treeids": [0] * 7,
        "nodes_nodeids": list(range(7)),
        "nodes_featureids": [0, 1, 2, 0, 0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 4,
        "nodes_values": [0.5, 0.25, 0.75, 0.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 5, 0, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 6, 0, 0, 0, 0],
        f"{outputs}_treeids": [0] * 4,
        f"{outputs}_nodeids": leaves,
        f"{outputs}_ids": [0, 1, 2, 0] if outputs == "class" else [0] * 4,
        f"{outputs}_weights": [0.5, 0.25, 0.75, 1.0],
    }


def _new_stump() -> dict[str, Any]:
    """The same as TreeEnsemble has it."""

    def numbers(*values: float) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.array(values, np.float32))

    return {
        "n_targets": 1,
        "tree_roots": [0],
        "nodes_featureids": [0, 1, 2],
        "nodes_modes": onnx.numpy_helper.from_array(np.zeros(3, np.uint8)),
        "nodes_splits": numbers(0.5, 0.25, 0.75),
        "nodes_truenodeids": [1, 0, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 1, 3],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0] * 4,
        "leaf_weights": numbers(0.5, 0.25, 0.75, 1.0),
    }


_VECTORS = [0.5] * (_SUPPORTS * _COLUMNS)
_RBF: Mapping[str, Any] = {
    "kernel_type": "RBF",
    "kernel_params": [0.25, 0.0, 3.0],
    "support_vectors": _VECTORS,
}

ML_PROBES: Mapping[str, Probe] = {
    "Binarizer": _classical(threshold=0.5),
    "Imputer": _classical(imputed_value_floats=[0.5], replaced_value_float=-1.0),
    "LabelEncoder": dataclasses.replace(
        _classical("3 keys", keys_int64s=[0, 1, 2], values_floats=[0.5, 1.5, 2.5]),
        before=(onnx.helper.make_node("Cast", ["x"], ["i"], to=_INT64),),
        operands=("i",),
    ),
    "LinearClassifier": _classical(
        "16 features, 3 classes",
        True,
        coefficients=[0.5] * (3 * _COLUMNS),
        intercepts=[0.5] * 3,
        classlabels_ints=[0, 1, 2],
    ),
    "LinearRegressor": _classical("16 features", coefficients=[0.5] * _COLUMNS),
    "Normalizer": _classical("rows of 16", norm="L2"),
    "OneHotEncoder": _classical("3 categories", cats_int64s=[0, 1, 2]),
    "SVMClassifier": _classical(
        "16 features, 8 vectors, 3 classes",
        True,
        **_RBF,
        vectors_per_class=[3, 3, 2],
        coefficients=[0.5] * (2 * _SUPPORTS),
        rho=[0.5] * 3,
        classlabels_ints=[0, 1, 2],
    ),
    "SVMRegressor": _classical(
        "16 features, 8 vectors",
        **_RBF,
        n_supports=_SUPPORTS,
        coefficients=[0.5] * _SUPPORTS,
        rho=[0.5],
    ),
    "Scaler": _classical(offset=[0.5], scale=[2.0]),
    "TreeEnsemble": dataclasses.replace(
        _classical("a tree of 3 conditions", **_new_stump()), since=5
    ),
    "TreeEnsembleClassifier": _classical(
        "a tree of 3 conditions", True, classlabels_int64s=[0, 1, 2], **_stump("class")
    ),
    "TreeEnsembleRegressor": _classical("a tree of 3 conditions", n_targets=1, **_stump("target")),
}
"""As PROBES, for ai.onnx.ml; its other operators only move elements."""


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
    since = probe.since if probe.domain else probe.opset
    schema = onnx.defs.get_schema(op, since, probe.domain)
    results = ["result", *(f"more{i}" for i in range(1, schema.min_output))]
    nodes = [
        *probe.before,
        helper.make_node(op, operands, results, name=_NODE, domain=probe.domain, **probe.attrs),
    ]
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
    sets = [helper.make_opsetid("", probe.opset)]
    if probe.domain:
        sets.append(helper.make_opsetid(probe.domain, since))
    made = helper.make_model(graph, opset_imports=sets)
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
    # Balancing the links of one node alone would cost it rounds that it does not cost in a model.
    program = costs.count(lower_program(secure, protocol, LinkBalance()).party)
    # A probe that only moves elements has no layer of its own.
    own = [layer.online for layer in program.layers if layer.name == _NODE]
    nbytes, rounds = sum(c.total_bytes for c in own), sum(c.rounds for c in own)
    shape = imported.outputs[0].shape if probe.per_result else next(iter(probe.inputs.values()))
    per = "result" if probe.per_result else "operand"
    return Price(nbytes / element_count(shape), rounds, per, probe.what)


def counted() -> dict[str, Price]:
    """Count all probes; takes many seconds.

    Raises:
        MpccError: a probe cannot be lowered.
    """
    protocol = protocol_named(PROTOCOL)
    found = {op: price(op, probe, protocol) for op, probe in PROBES.items()}
    return found | {
        f"{probe.domain}.{op}": price(op, probe, protocol) for op, probe in ML_PROBES.items()
    }


def prices() -> dict[str, Price]:
    """Costs of all operators that have a probe, as they are in :data:`FILE`."""
    return {op: Price(**row) for op, row in json.loads(FILE.read_text()).items()}


def table() -> list[tuple[Support, Price | None]]:
    """All operators of ONNX with what they cost, if they send anything."""
    found = prices()
    return [(s, found.get(f"{s.domain}.{s.name}" if s.domain else s.name)) for s in operators()]


def to_json() -> list[dict[str, Any]]:
    """The table as JSON values: the fields of :class:`Support`, ``cost`` and ``error`` or null.

    ``error`` is of smooth functions: proved and measured, at ``fraction_bits``.
    """
    errors = accuracies()
    return [
        dataclasses.asdict(s)
        | {"cost": None if p is None else dataclasses.asdict(p)}
        | {"error": None if s.domain else _error_json(errors.get(s.name))}
        for s, p in table()
    ]


def _error_json(error: Accuracy | None) -> dict[str, float | int] | None:
    return None if error is None else dataclasses.asdict(error) | {"fraction_bits": FRACTION}


def tables() -> list[Table]:
    """The table for people, in two: what is supported, and what is not."""
    good = Table(
        title=f"ONNX operators on computed values, opset {MIN_OPSET} to {MAX_OPSET}; costs: "
        f"{PROTOCOL}, over all links, values of {WIDTH} bits"
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
    for s, p in sorted(table(), key=lambda row: (row[0].family, row[0].name)):
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


def main() -> None:
    """Count all probes and write the file."""
    rows = {op: dataclasses.asdict(found) for op, found in sorted(counted().items())}
    lines = ",\n".join(f"{json.dumps(op)}: {json.dumps(row)}" for op, row in rows.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
