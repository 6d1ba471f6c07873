"""ONNX layers: Conv, MaxPool, Relu, Dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpcc.frontend.importer import Constant, Operand
from mpcc.frontend.onnx.node import Handler, Node
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


def relu(node: Node) -> Operand:
    """Relu: max(x, 0), elementwise."""
    return node.emit(tensor.Relu, node.value(0))


def _two_dimensional(node: Node, index: int) -> tuple[int, int]:
    shape = node.shape(index)
    if len(shape) != 4:
        node.refuse(
            f"data of shape {list(shape)}: only two spatial axes [N, C, H, W] are supported"
        )
    return shape[2], shape[3]


def _windows(node: Node, name: str, default: Sequence[int]) -> tuple[int, int]:
    found = node.ints(name, default)
    if len(found) != 2 or min(found) < 1:
        node.refuse(f"{name} must be two positive integers, not {list(found)}")
    return found[0], found[1]


def _pads(
    node: Node, size: tuple[int, int], span: tuple[int, int], strides: tuple[int, int]
) -> tuple[int, ...]:
    """Pads (begin, begin, end, end) from ``pads`` or ``auto_pad``.

    Args:
        node: Conv or MaxPool.
        size: of the data.
        span: of the window, dilation included.
        strides: steps.
    """
    mode = node.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode == "NOTSET":
        pads = node.ints("pads", (0, 0, 0, 0))
        if len(pads) != 4 or min(pads) < 0:
            node.refuse(f"pads must be four integers, not negative: {list(pads)}")
        return pads
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        node.refuse(f"auto_pad {mode}")
    begin, end = [], []
    for d, k, s in zip(size, span, strides, strict=True):
        total = max((-(-d // s) - 1) * s + k - d, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return (*begin, *end)


def conv(node: Node) -> Operand:
    """Conv: two spatial axes, all pads, groups and dilations."""
    size = _two_dimensional(node, 0)
    kernel = _two_dimensional(node, 1)
    if node.has("kernel_shape") and node.ints("kernel_shape") != kernel:
        node.refuse(f"kernel_shape {list(node.ints('kernel_shape'))} of a kernel {list(kernel)}")
    strides = _windows(node, "strides", (1, 1))
    dilations = _windows(node, "dilations", (1, 1))
    span = (dilations[0] * (kernel[0] - 1) + 1, dilations[1] * (kernel[1] - 1) + 1)
    operands = [node.value(0), node.value(1)]
    if node.optional(2) is not None:
        operands.append(node.value(2))
    return node.emit(
        tensor.Conv,
        *operands,
        strides=strides,
        pads=_pads(node, size, span, strides),
        dilations=dilations,
        groups=node.integer("group", 1),
    )


def maxpool(node: Node) -> Operand:
    """MaxPool: two spatial axes; ceil_mode becomes padding at the end."""
    node.only_first_output("Indices")
    size = _two_dimensional(node, 0)
    kernel = _windows(node, "kernel_shape", ())
    strides = _windows(node, "strides", (1, 1))
    if _windows(node, "dilations", (1, 1)) != (1, 1):
        node.refuse("dilated windows")
    pads = list(_pads(node, size, kernel, strides))
    # auto_pad fixes the output's size by itself.
    if node.integer("ceil_mode", 0) and node.text("auto_pad", "NOTSET") == "NOTSET":
        for i in range(2):
            room = size[i] + pads[i] + pads[2 + i] - kernel[i]
            count = max(-(-room // strides[i]) + 1, 1)
            # No window may start in the padding at the end.
            if (count - 1) * strides[i] >= size[i] + pads[i]:
                count -= 1
            needed = (count - 1) * strides[i] + kernel[i] - size[i] - pads[i]
            pads[2 + i] = max(needed, 0)
    return node.emit(
        tensor.MaxPool, node.value(0), kernel=kernel, strides=strides, pads=tuple(pads)
    )


def dropout(node: Node) -> Operand:
    """Dropout: the operand itself, as at inference."""
    node.only_first_output("mask")
    training = node.optional(2)
    if training is not None and not (
        isinstance(training, Constant) and not training.derived and not training.array.any()
    ):
        node.refuse("training mode", "export the model for inference (in PyTorch: model.eval())")
    return node.operand(0)


OPERATORS: Mapping[str, Handler] = {
    "Conv": conv,
    "Dropout": dropout,
    "MaxPool": maxpool,
    "Relu": relu,
}
"""Operator name -> import function."""
