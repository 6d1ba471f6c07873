"""TensorFlow's functions, conditions, loops, lists of tensors, and variables.

Programs are straight: calls are inlined, loops written out as often as a public condition says, and
of a secret condition both branches are computed and their results selected.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.recurrent import MAX_STEPS
from mpcc.frontend.tensorflow.node import Item, Node, Operator, TensorList, Variable
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


# --- functions and variables ---------------------------------------------------------------------


def call(node: Node) -> tuple[Item | None, ...]:
    """PartitionedCall, StatefulPartitionedCall: the function at this place."""
    return node.call(node.function("f"), "", "", node.items)


def read_variable(node: Node) -> Item:
    """ReadVariableOp: the constant that the variable holds."""
    found = node.item(0)
    if not isinstance(found, Variable) or found.constant is None:
        node.refuse("a resource that is no variable")
    return found.constant


# --- conditions ----------------------------------------------------------------------------------


def if_(node: Node) -> tuple[Item | None, ...]:
    """If: the branch that a public condition takes; of a secret one both, and a choice."""
    condition = node.items[0]
    branches = ("then_branch", "else_branch")
    if isinstance(condition, Constant):
        taken = node.known(0, "its condition").array.reshape(-1)
        if taken.size != 1:
            node.refuse(f"a condition of {taken.size} elements")
        name = branches[0 if taken[0] else 1]
        return node.call(node.function(name), name, "", node.items[1:])
    pairs = [node.call(node.function(name), name, "", node.items[1:]) for name in branches]
    if condition is None:
        return tuple(None for _ in pairs[0])
    bit = node.real(node.operand(0))
    if np.prod(type_of(bit).shape, dtype=int) != 1:
        node.refuse(f"a condition {list(type_of(bit).shape)}")
    chosen = node.emit(tensor.Less, node.public("half", 0.5), bit)
    return tuple(_choice(node, chosen, a, b) for a, b in zip(*pairs, strict=True))


def _choice(node: Node, bit: Value, a: Item | None, b: Item | None) -> Item | None:
    if a is None or b is None:
        return None
    if isinstance(a, (Variable, TensorList)) or isinstance(b, (Variable, TensorList)):
        node.refuse("a choice of lists or variables by a secret condition")
    shapes = [list(type_of(x).shape) for x in (a, b)]
    if shapes[0] != shapes[1]:
        node.refuse(
            f"branches on a secret condition give {shapes[0]} and {shapes[1]}",
            "make both branches give the same shape",
        )
    return node.emit(tensor.Where, bit, node.real(a), node.real(b))


def case(node: Node) -> tuple[Item | None, ...]:
    """Case: the branch that a public number names."""
    (index,) = node.integers(0, "its branch")
    names = [str(f.name) for f in node.proto.attr["branches"].list.func]
    name = names[index if 0 <= index < len(names) else -1]
    return node.call(name, name, "", node.items[1:])


# --- loops ---------------------------------------------------------------------------------------


def while_(node: Node) -> tuple[Item | None, ...]:
    """While: as often as its public condition says, written out."""
    carried = tuple(node.items)
    for step in range(MAX_STEPS + 1):
        (condition,) = node.call(node.function("cond"), "condition", str(step), carried)
        if condition is None:
            # The body may have more that cannot be imported.
            node.call(node.function("body"), "body", str(step), carried)
            return (None,) * len(carried)
        if not _goes_on(node, condition):
            return carried
        if step == MAX_STEPS:
            break
        carried = node.call(node.function("body"), "body", str(step), carried)
    node.refuse(
        f"more than {MAX_STEPS} steps",
        "give fewer steps at a time, and hand the state on as an input and an output",
    )


def _goes_on(node: Node, condition: Item) -> bool:
    if not isinstance(condition, Constant):
        node.refuse(
            "the number of steps depends on secret data, and would tell about it",
            "loop a fixed number of times, and choose results with tf.where",
        )
    if condition.derived and not condition.restated:
        node.refuse("the number of steps is computed from weights, and would be public")
    return bool(condition.array.reshape(-1)[0])


# --- lists of tensors ----------------------------------------------------------------------------


def _shape(node: Node, index: int) -> tuple[int | None, ...] | None:
    """An operand that is the shape of a list's elements; -1 is a size, or all, unknown."""
    found = node.known(index, "the shape of a list's elements").array
    if found.ndim == 0:
        return None
    return tuple(None if d < 0 else int(d) for d in found.tolist())


def _dtype(node: Node) -> np.dtype[np.generic]:
    kind = node.dtype("element_dtype")
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        node.refuse("a list of lists, of strings or of other things that are no numbers")
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))


def list_reserve(node: Node) -> Item:
    """TensorListReserve: places for a public number of tensors."""
    (count,) = node.integers(1, "the length of a list")
    node.builder.room.array((count,), node.label)
    return TensorList((None,) * count, _shape(node, 0), _dtype(node))


def list_empty(node: Node) -> Item:
    """EmptyTensorList: without a place yet."""
    return TensorList((), _shape(node, 0), _dtype(node))


def list_from(node: Node) -> Item:
    """TensorListFromTensor: the elements of the first axis."""
    found = node.operand(0)
    shape = type_of(found).shape
    items = [_item(node, found, i) for i in range(shape[0])]
    return TensorList(tuple(items), shape[1:], _dtype(node))


def _item(node: Node, x: Operand, index: int) -> Operand:
    if isinstance(x, Constant):
        return node.derive(x, f"item{index}", lambda a: np.asarray(a[index]))
    place = Constant(np.asarray(index), "", "public")
    return node.onnx("Gather", x, place, axis=0)


def _place(node: Node, index: int, size: int) -> int:
    (found,) = node.integers(index, "a position in a list")
    if not 0 <= found < size:
        node.refuse(f"position {found} in a list of {size}")
    return found


def list_get(node: Node) -> Item:
    """TensorListGetItem: at a public position."""
    found = node.list(0)
    item = found.items[_place(node, 1, len(found.items))]
    return _zeros(node, found, 2) if item is None else item


def _zeros(node: Node, found: TensorList, index: int) -> Operand:
    """What stands where nothing was put."""
    shape = found.shape
    if shape is None or None in shape:
        shape = _shape(node, index)
    known = next((type_of(i).shape for i in found.items if i is not None), None)
    wanted = known if shape is None or None in shape else tuple(d or 0 for d in shape)
    if wanted is None:
        node.refuse("an element of a list that was never put there, and has no known shape")
    node.builder.room.array(wanted, node.label)
    return Constant(np.zeros(wanted, found.dtype), f"{node.output}/zeros", "public")


def list_set(node: Node) -> Item:
    """TensorListSetItem: at a public position."""
    found, (place,) = node.list(0), node.integers(1, "a position in a list")
    items = list(found.items)
    if node.flag("resize_if_index_out_of_bounds") and place >= len(items):
        node.builder.room.array((place + 1,), node.label)
        items += [None] * (place + 1 - len(items))
    items[_place(node, 1, len(items))] = node.operand(2)
    return TensorList(tuple(items), found.shape, found.dtype)


def list_push(node: Node) -> Item:
    """TensorListPushBack: at the end."""
    found = node.list(0)
    return TensorList((*found.items, node.operand(1)), found.shape, found.dtype)


def list_pop(node: Node) -> tuple[Item, ...]:
    """TensorListPopBack: the list without its last element, and that."""
    found = node.list(0)
    if not found.items:
        node.refuse("the last element of an empty list")
    last = found.items[-1]
    rest = TensorList(found.items[:-1], found.shape, found.dtype)
    return rest, _zeros(node, found, 1) if last is None else last


def list_length(node: Node) -> Item:
    """TensorListLength: public."""
    return Constant(np.asarray(len(node.list(0).items), np.int32), node.output, "public")


def list_stack(node: Node) -> Item:
    """TensorListStack: the elements along a new first axis."""
    found = node.list(0)
    return _stacked(node, found, list(found.items), 1)


def list_gather(node: Node) -> Item:
    """TensorListGather: elements at public positions along a new first axis."""
    found = node.list(0)
    places = node.integers(1, "a position in a list")
    if any(not 0 <= p < len(found.items) for p in places):
        node.refuse(f"positions {list(places)} in a list of {len(found.items)}")
    return _stacked(node, found, [found.items[p] for p in places], 2)


def _stacked(node: Node, found: TensorList, items: list[Operand | None], shape: int) -> Operand:
    if not items:
        node.refuse("a list of no elements")
    filled = [_zeros(node, found, shape) if i is None else i for i in items]
    constants = [i for i in filled if isinstance(i, Constant)]
    if len(constants) == len(filled):

        def stack(arrays: object) -> Array:
            return np.stack(list(arrays))  # type: ignore[call-overload]

        return node.builder.combine(f"{node.output}.stack", constants, stack)
    rows = []
    for item in filled:
        # Truth values are joined as 0 and 1.
        value = node.real(item)
        rows.append(node.reshape(value, (1, *type_of(value).shape)))
    return node.onnx("Concat", *rows, axis=0) if len(rows) > 1 else rows[0]


OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(("Case", "StatelessCase"), Operator(case)),
    **dict.fromkeys(("If", "StatelessIf"), Operator(if_)),
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall"), Operator(call)),
    **dict.fromkeys(("While", "StatelessWhile"), Operator(while_)),
    "EmptyTensorList": Operator(list_empty, always=True),
    "ReadVariableOp": Operator(read_variable, always=True),
    "TensorListFromTensor": Operator(list_from, always=True),
    "TensorListGather": Operator(list_gather, always=True),
    "TensorListGetItem": Operator(list_get, always=True),
    "TensorListLength": Operator(list_length, always=True),
    "TensorListPopBack": Operator(list_pop, always=True),
    "TensorListPushBack": Operator(list_push, always=True),
    "TensorListReserve": Operator(list_reserve, always=True),
    "TensorListSetItem": Operator(list_set, always=True),
    "TensorListStack": Operator(list_stack, always=True),
}
"""Operator name -> how it is imported."""
