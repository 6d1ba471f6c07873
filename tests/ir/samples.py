"""A module per level that holds every operator of the level, for tests of what is derived."""

from typing import Any

from mpcc.ir.core import Function, Module, Value
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.types import BitsType

AWKWARD = 'a "quoted" \\ name/with:0 %1 // é\n\ttab'


def type_of(value: Value) -> Any:
    """The type, unchecked: its attributes differ between levels."""
    return value.type


class Maker:
    """Appends ops by name."""

    def __init__(self, level: str) -> None:
        self.module = Module(level, {"protocol": "rep3", "parties": 3, "ratio": 1e-07, "on": True})
        self.dialect = DIALECTS[level]

    def __call__(self, op: str, *operands: Value, body: Function | None = None, **attrs) -> Value:
        definition = self.dialect.operations[f"{self.dialect.level}.{op}"]
        made = self.module.main.append(definition, operands, attrs, f"{AWKWARD} {op}", body)
        return made.results[0] if made.results else operands[0]


def tensor_module() -> Module:
    """Every tensor op."""
    o = Maker("tensor")
    x = o("input", name=AWKWARD, shape=(1, 4, 6, 6))
    w = o("weight", name="w", shape=(4, 2, 3, 3))
    bias = o("weight", name="bias", shape=(4,), owner="public")
    y = o("conv", x, w, bias, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), groups=2)
    y = o("conv", y, w, strides=(2, 1), pads=(0, 1, 2, 3), dilations=(2, 1), groups=2)
    y = o("relu", o("maxpool", y, kernel=(2, 2), strides=(1, 2), pads=(0, 0, 0, 1)))
    y = o("pad", y, low=(0, 0, 1, 0), high=(0, 0, 0, 2), value=-1.5e-05)
    y = o("transpose", y, perm=(0, 2, 3, 1))
    y = o("reshape", y, shape=(2, type_of(y).shape[1] * type_of(y).shape[2] * 2))
    b = o("input", name="b", shape=(type_of(y).shape[1], 3), owner="model")
    y = o("matmul", y, b)
    scalar = o("reshape", o("input", name="s", shape=(1,), owner="public"), shape=())
    y = o("sub", o("add", y, scalar), scalar)
    o("output", y, name="y", owner="model")
    return o.module


def secure_module() -> Module:
    """Every secure op."""
    o = Maker("secure")
    x = o(
        "input", name="x", owner="client", shape=(1, 2, 4, 4), frac=8, width=12, lo=-7.5e-20, hi=0.1
    )
    w = o("weight", name="w", owner="model", shape=(2, 2, 1, 1), frac=8, width=9)
    box: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    y = o("conv", x, w, width=22, **box)
    y = o("add", y, y, width=23)
    y = o("sub", y, y, width=24)
    y = o("truncate", y, amount=8, width=17)
    y = o("truncate", o("shift_left", y, amount=3, width=20), amount=3, width=17, rounding="exact")
    y = o("select", o("negative", y), y, invert=True, width=17)
    y = o("clamp", y, lo=-256, hi=255, width=9)
    y = o("pad", y, low=(0, 0, 1, 0), high=(0, 0, 0, 1), value=-256)
    y = o("slice", y, starts=(0, 0, 1, 0), limits=(1, 2, 5, 4), strides=(1, 1, 2, 2))
    y = o("concat", y, y, axis=1)
    y = o("reshape", o("transpose", y, perm=(0, 2, 3, 1)), shape=(4, 4))
    y = o("matmul", y, y, width=22)
    y = o("broadcast", y, shape=(2, 4, 4), dims=(1, 2))
    o("reveal", y, name="y", owner="client")
    return o.module


def party_module() -> Module:
    """Every party op."""
    o = Maker("party")
    clear = o("input", name="x", shape=(3, 7), place="client")
    x = o("encode", clear, frac=12, lo=-1.5, hi=1e20)
    o("weight", name=AWKWARD, shape=(2,), place="model", ring=32)
    x = o("transfer", x, to="P0", step="share")
    r = o("draw_ring", key="P0+P1", stream=2**62, shape=(3, 7), place="P0")
    x = o("sub", o("add", x, r), o("mul", x, o("neg", r)))
    x = o("add_const", o("mul_const", x, value=-3), value=2**62)
    x = o("shift_right", o("shift_left", x, amount=3), amount=5)
    x = o("low_bits", x, count=40)
    p = o("draw_bits", key="P0+P2", stream=0, phase="setup", lanes=21, planes=1, place="P0")
    x = o("negate_if", p, o("mask_by", p, x))
    b = o("bit_slice", x, planes=6, shift=2)
    c = o("not", o("and", o("xor", b, b), b))
    tables = o("carry_tables", b, c, blocks=(4, 2))
    found = o("lookup", tables, b, blocks=(4, 2))
    q = o("anf", found, terms=(((0,), (1, 2)), ((2,),)))
    q = o("join", o("planes", q, indices=(1, 0)), p)
    back = o("from_bits", q, shape=(3, 7))
    body = Function("body", [BitsType(21, 6, "P0"), BitsType(21, 6, "P0")])
    inner = body.append(o.dialect.operations["party.xor"], body.args, {}, "inside")
    flipped = body.append(o.dialect.operations["party.not"], body.args[:1])
    body.returns = [inner.result, flipped.result]
    o("fused", b, c, body=body)
    y = o("reshape", back, shape=(1, 3, 7, 1))
    y = o("transpose", y, perm=(0, 2, 1, 3))
    y = o("broadcast", y, shape=(1, 7, 3, 2), dims=(0, 1, 2, 3))
    y = o("pad", y, low=(0, 0, 0, 1), high=(0, 0, 1, 0), value=-7)
    y = o("slice", y, starts=(0, 0, 1, 0), limits=(1, 6, 4, 3), strides=(1, 1, 2, 1))
    y = o("concat", y, y, axis=0)
    w = o("draw_ring", key="P0+P1", stream=1, shape=(2, 3, 1, 1), place="P0")
    y = o("conv", y, w, y, w, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=2)
    y = o("reshape", y, shape=(4, 6))
    z = o("transpose", y, perm=(1, 0))
    y = o("matmul", y, z, y, z)
    y = o("transfer", y, to="client", step="reveal")
    o("output", o("decode", y, frac=12), name="y")
    return o.module


SAMPLES = {"tensor": tensor_module, "secure": secure_module, "party": party_module}
