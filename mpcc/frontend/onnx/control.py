"""ONNX control flow: If, Loop and Scan, without any of it left in the program.

Programs are straight, so that what a party does tells nothing. Of a public condition the branch
that it takes is imported; of a secret one both branches are computed and their results selected. A
loop's steps follow each other, those that do the same as calls of one function
(:mod:`mpcc.ir.calls`): how often it runs is public, and must be known when the model is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx.compose import cut
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.recurrent import MAX_STEPS
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


# --- If ------------------------------------------------------------------------------------------


def if_(node: Node) -> tuple[Operand | None, ...]:
    """If: the branch that a public condition takes; of a secret one both, and a choice."""
    condition = node.operand(0)
    if isinstance(condition, Constant):
        taken = node.known(0, "its condition").array.reshape(-1)
        if taken.size != 1:
            node.refuse(f"a condition of {taken.size} elements")
        name, other = ("then_branch", "else_branch")[:: 1 if taken[0] else -1]
        node.has(other)
        return node.body(name, name, ())
    bit = node.bit(0)
    if np.prod(type_of(bit).shape, dtype=int) != 1:
        node.refuse(f"a condition {list(type_of(bit).shape)}")
    pairs = [node.body(name, name, ()) for name in ("then_branch", "else_branch")]
    return tuple(_choice(node, bit, a, b) for a, b in zip(*pairs, strict=True))


def _choice(node: Node, bit: Value, a: Operand | None, b: Operand | None) -> Operand | None:
    if a is None or b is None:
        return None
    x, y = node.real(a), node.real(b)
    shape = type_of(x).shape
    if type_of(y).shape != shape:
        node.refuse(
            f"branches on a secret condition give {list(shape)} and {list(type_of(y).shape)}",
            "make both branches give the same shape",
        )
    bit = node.emit(tensor.Reshape, bit, shape=(1,) * len(shape)) if _is_bits(bit) else bit
    return node.emit(tensor.Where, bit, x, y)


def _is_bits(value: Value) -> bool:
    # Only numbers can be reshaped; one truth value broadcasts as it is.
    return type_of(value).dtype != "bool"


# --- loops ---------------------------------------------------------------------------------------


def loop(node: Node) -> tuple[Operand | None, ...]:
    """Loop: with a public number of steps, which are calls of a function."""
    node.has("body")
    count = MAX_STEPS + 1
    if node.optional(0) is not None:
        count = int(node.known(0, "the number of steps").array.reshape(-1)[0])
    carried: Sequence[Operand] = [node.operand(i) for i in range(2, len(node.operands))]
    running = node.optional(1) is None or _goes_on(node, node.operand(1))
    rows: list[Sequence[Operand]] = []
    step = 0
    while running and step < count:
        if step == MAX_STEPS:
            node.refuse(
                f"more than {MAX_STEPS} steps",
                "give fewer steps at a time, and hand the state on as an input and an output",
            )
        number = Constant(np.array(step, np.int64), f"{node.output}.step{step}", "public")
        always = Constant(np.array(True), f"{node.output}.condition", "public")

        def run(
            step: int = step, given: Sequence[Operand] = (number, always, *carried)
        ) -> tuple[Operand | None, ...]:
            return node.body("body", f"step{step}", given)

        made = node.builder.call(node.label, run)
        found = [v for v in made if v is not None]
        if len(found) < len(made):
            return (None,) * len(node.proto.output)
        running = _goes_on(node, found[0])
        carried, row = found[1 : 1 + len(carried)], found[1 + len(carried) :]
        rows.append(row)
        step += 1
    scanned = len(node.proto.output) - len(carried)
    return (
        *carried,
        *(_stacked(node, f"scan{i}", [r[i] for r in rows], 0) for i in range(scanned)),
    )


def _goes_on(node: Node, condition: Operand) -> bool:
    if not isinstance(condition, Constant):
        node.refuse(
            "the number of steps depends on secret data, and would tell about it",
            "loop a fixed number of times, and choose results with Where",
        )
    if condition.derived and not condition.restated:
        node.refuse("the number of steps is computed from weights, and would be public")
    return bool(condition.array.reshape(-1)[0])


def scan(node: Node) -> tuple[Operand | None, ...]:
    """Scan: steps are calls of a function."""
    inputs = node.integer("num_scan_inputs")
    if not 1 <= inputs <= len(node.operands):
        node.refuse(f"{inputs} scanned inputs of {len(node.operands)}")
    if node.opset < 9:
        return _batched_scan(node, inputs)
    states = len(node.operands) - inputs
    outputs = len(node.proto.output) - states
    axes = node.ints("scan_input_axes", [0] * inputs)
    turned = node.ints("scan_input_directions", [0] * inputs)
    out_axes = node.ints("scan_output_axes", [0] * outputs)
    out_turned = node.ints("scan_output_directions", [0] * outputs)
    if not len(axes) == len(turned) == inputs or not len(out_axes) == len(out_turned) == outputs:
        node.refuse("lists of axes or directions that are not as long as those of the operands")
    scanned = [
        _Scanned(
            node.operand(states + i),
            node.axis(axes[i], len(node.shape(states + i))),
            bool(turned[i]),
        )
        for i in range(inputs)
    ]
    found = _scanned(node, "", [node.operand(i) for i in range(states)], scanned)
    if found is None:
        return (None,) * len(node.proto.output)
    carried, rows = found
    results = []
    for i in range(outputs):
        column = [row[i] for row in rows]
        axis = node.axis(out_axes[i], len(type_of(column[0]).shape) + 1)
        ordered = column[::-1] if out_turned[i] else column
        results.append(_stacked(node, f"scan{i}", ordered, axis))
    return (*carried, *results)


@dataclass(frozen=True)
class _Scanned:
    """An input of a scan: the axis along which its elements are taken, and from which end."""

    value: Operand
    axis: int
    turned: bool


def _scanned(
    node: Node, scope: str, carried: Sequence[Operand], scanned: Sequence[_Scanned]
) -> tuple[Sequence[Operand], list[Sequence[Operand]]] | None:
    """The last states, and the outputs of every step; None if the body cannot be imported."""
    sizes = {type_of(s.value).shape[s.axis] for s in scanned}
    if len(sizes) != 1:
        node.refuse(f"inputs of different lengths, {sorted(sizes)}")
    (steps,) = sizes
    if steps > MAX_STEPS:
        node.refuse(f"{steps} steps; a program has {MAX_STEPS} at most")
    rows: list[Sequence[Operand]] = []
    for step in range(steps):
        items = [
            _item(node, s.value, s.axis, steps - 1 - step if s.turned else step) for s in scanned
        ]

        def run(
            step: int = step, given: Sequence[Operand] = (*carried, *items)
        ) -> tuple[Operand | None, ...]:
            return node.body("body", f"{scope}step{step}", given)

        made = node.builder.call(node.label, run)
        found = [v for v in made if v is not None]
        if len(found) < len(made):
            return None
        carried, row = found[: len(carried)], found[len(carried) :]
        rows.append(row)
    return carried, rows


def _batched_scan(node: Node, inputs: int) -> tuple[Operand | None, ...]:
    """Scan of opset 8: for every element of a batch alone, along its next axis."""
    if node.optional(0) is not None:
        node.refuse("sequence lengths", "export the model with opset 9 or newer")
    turned = node.ints("directions", [0] * inputs)
    given = [node.operand(i) for i in range(1, len(node.operands))]
    if not 1 <= inputs <= len(given):
        node.refuse(f"{inputs} scanned inputs of {len(given)}")
    batch, states = type_of(given[0]).shape[0], len(given) - inputs
    columns: list[list[Operand]] = [[] for _ in node.proto.output]
    for row in range(batch):
        items = [_item(node, x, 0, row) for x in given]
        scanned = [
            _Scanned(x, 0, bool(back)) for x, back in zip(items[states:], turned, strict=True)
        ]
        found = _scanned(node, f"row{row}", items[:states], scanned)
        if found is None:
            return (None,) * len(node.proto.output)
        carried, rows = found
        outputs = range(len(node.proto.output) - states)
        made = [_stacked(node, f"scan{row}_{i}", [r[i] for r in rows], 0) for i in outputs]
        for column, value in zip(columns, (*carried, *made), strict=True):
            column.append(value)
    return tuple(_stacked(node, f"batch{i}", column, 0) for i, column in enumerate(columns))


def _item(node: Node, x: Operand, axis: int, index: int) -> Operand:
    """One element of an axis, without the axis."""
    if isinstance(x, Constant):
        return node.builder.derive(x, f"item{index}_of_{axis}", lambda a: a.take(index, axis))
    shape = type_of(x).shape
    return node.reshape(
        cut(node, node.real(x), axis, index, index + 1), shape[:axis] + shape[axis + 1 :]
    )


def _stacked(node: Node, name: str, found: Sequence[Operand], axis: int) -> Operand:
    """Values of all steps along a new axis."""
    if not found:
        node.refuse("a result of no steps, which has no elements")
    shape = type_of(found[0]).shape
    if any(type_of(v).shape != shape for v in found):
        node.refuse("steps give results of different shapes")
    constants = [v for v in found if isinstance(v, Constant)]
    if len(constants) == len(found):
        return node.builder.combine(
            f"{node.output}.{name}",
            constants,
            lambda arrays: np.stack(arrays, axis),
            (len(found), *shape),
        )
    wide = (*shape[:axis], 1, *shape[axis:])
    return node.emit(
        tensor.Concat,
        *(node.emit(tensor.Reshape, node.real(v), shape=wide) for v in found),
        axis=axis,
    )


OPERATORS: Mapping[str, Operator] = {
    "If": Operator(if_, "a secret condition where the branches differ in shape"),
    "Loop": Operator(loop, "a number of steps that depends on data or weights"),
    "Scan": Operator(scan, "of opset 8: sequence lengths"),
}
"""Operator name -> how it is imported."""
