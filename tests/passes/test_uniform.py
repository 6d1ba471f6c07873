"""One interval per value: the same bounds as the general rules give, without memory for shapes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.analysis.forms import declaration
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.intervals import Interval
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import parse_module
from mpcc.passes.analysis import uniform
from mpcc.passes.analysis.uniform import BUDGET, UniformIntervals
from mpcc.passes.declared_formats import declared_phi
from tests.frontend.rows import ROWS
from tests.passes.secure_nets import random_net

MODULES = [
    *(pytest.param(import_onnx(row.build(row.opsets[-1])).module, id=row.name) for row in ROWS),
    *(pytest.param(random_net(seed).module, id=f"random {seed}") for seed in range(6)),
]


@pytest.mark.parametrize("module", MODULES)
def test_the_bounds_are_those_of_the_general_rule(module):
    ranges = {op.attrs["name"]: (-1.5, 3.0) for op in module.main.walk(tensor.Input.name)}
    alike = UniformIntervals(module, 16, 12, ranges, 2.0)
    for op in module.main.ops:
        if op.definition is tensor.Output:
            continue
        inner = alike.step(op)
        found = [alike.values[v] for v in op.results]
        for value, bounds in zip(op.results, found, strict=True):
            assert bounds.lo.shape == bounds.hi.shape == (1,) * len(value.type.shape)
        if op.definition in (tensor.Input, tensor.Weight):
            continue
        operands = [
            Interval(*(np.full(v.type.shape, end.item()) for end in (x.lo, x.hi)))
            for v, x in ((v, alike.values[v]) for v in op.operands)
        ]
        want = declaration(op).interval(op.attrs, operands, alike.rounding)
        # Convolutions and products count all terms of a sum, also where padding has some.
        coarse = op.definition in (tensor.Conv, tensor.MatMul)
        # Weighted means are narrower than products by their operands' bounds alone.
        averaged = coarse and op.operands[0].op.definition is tensor.Softmax
        for bounds, general in zip(found, want.results, strict=True):
            for end, most in ((bounds.hi, general.hi.max()), (-bounds.lo, -general.lo.min())):
                assert averaged or end.item() >= most - 1e-9 * abs(most)
                assert coarse or end.item() <= most + 1e-9 * abs(most)
        assert inner >= want.inner * (1 - 1e-9)


def program(op: str, shape: str, result: str) -> str:
    sizes = shape.replace("x", ", ")
    return f"""module tensor {{
  func @main() {{
    %0 = tensor.input() {{name = "x", shape = [{sizes}]}} : tensor<{shape}xf32, client>
    %1 = {op} : tensor<{result}xf32, client>
    tensor.output(%1) {{name = "y"}}
  }}
}}
"""


HUGE = str(1 << 33)
DECLARED = FormatOptions(disclose="none", input_ranges={"x": (-1, 1)})


@pytest.mark.parametrize(
    ("op", "shape", "result"),
    [
        ("tensor.relu(%0)", HUGE, HUGE),
        ("tensor.add(%0, %0)", HUGE, HUGE),
        (f"tensor.reshape(%0) {{shape = [2, {1 << 32}]}}", HUGE, f"2x{1 << 32}"),
        ("tensor.concat(%0, %0) {axis = 0}", HUGE, str(1 << 34)),
        (f"tensor.pad(%0) {{low = [0], high = [{1 << 33}], value = 0.0}}", HUGE, str(1 << 34)),
        ("tensor.reduce_sum(%0) {axes = [1], keepdims = false}", f"{HUGE}x3", HUGE),
        ("tensor.cumsum(%0) {axis = 1, exclusive = false, reverse = false}", f"{HUGE}x3",
         f"{HUGE}x3"),
    ],
)  # fmt: skip
def test_shapes_take_no_memory(op, shape, result):
    module = parse_module(program(op, shape, result), DIALECTS)
    tracemalloc.start()
    try:
        phi = declared_phi(module, DECLARED)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    assert dict(phi.ranges)[0] == 1


def sums(size: int, count: int) -> str:
    """So many sums over all elements of the input."""
    lines = [
        f"    %{i + 1} = tensor.reduce_sum(%0) {{axes = [0], keepdims = true}} "
        ": tensor<1xf32, client>\n"
        for i in range(count)
    ]
    text = program("tensor.relu(%0)", str(size), str(size)).splitlines(keepends=True)
    return "".join([*text[:3], *lines, text[4], *text[5:]])


def test_sums_have_a_budget(monkeypatch):
    """One sum of too many terms, or several that only together have too many."""
    declared_phi(parse_module(sums(1 << 10, 3), DIALECTS), DECLARED)
    tracemalloc.start()
    try:
        with pytest.raises(MpccError, match=r"bounds of tensor.reduce_sum are computed") as caught:
            declared_phi(parse_module(sums(BUDGET + 1, 1), DIALECTS), DECLARED)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    assert caught.value.code == "E-range-size"
    monkeypatch.setattr(uniform, "BUDGET", 3 << 10)
    declared_phi(parse_module(sums(1 << 10, 2), DIALECTS), DECLARED)
    with pytest.raises(MpccError, match="E-range-size"):
        declared_phi(parse_module(sums(1 << 10, 4), DIALECTS), DECLARED)
