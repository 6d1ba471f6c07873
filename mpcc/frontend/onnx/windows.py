"""Windows over spatial axes, as convolutions and pools have them: sizes, steps and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.frontend.onnx.node import Node
from mpcc.ir.types import Shape

__all__ = ["Windows", "divided", "explicit_pads", "positive", "spans", "spatial"]


@dataclass(frozen=True)
class Windows:
    """Windows over data [N, C, *size].

    Attributes:
        size: of the data's spatial axes.
        kernel: elements per axis.
        strides: step from window to window.
        dilations: step from element to element.
        pads: zeros before every axis, then after every one, as the node gives them.
        extra: further zeros after every axis, only so that the last windows are whole (ceil_mode).
    """

    size: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    extra: Shape

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def span(self) -> Shape:
        """Elements from the first to the last of a window."""
        return spans(self.kernel, self.dilations)

    @property
    def all_pads(self) -> Shape:
        """``pads`` with ``extra``."""
        n = self.rank
        ends = [p + e for p, e in zip(self.pads[n:], self.extra, strict=True)]
        return (*self.pads[:n], *ends)

    @property
    def counts(self) -> Shape:
        """Number of windows per axis."""
        n, pads = self.rank, self.all_pads
        return tuple(
            (self.size[i] + pads[i] + pads[n + i] - self.span[i]) // self.strides[i] + 1
            for i in range(n)
        )

    @classmethod
    def of(cls, node: Node, kernel: Shape | None = None) -> Windows:
        """Those of a Conv (whose kernel has a shape) or of a pool.

        Raises:
            Unsupported: attributes do not fit the data.
        """
        size = spatial(node)
        if kernel is None:
            kernel = positive(node, "kernel_shape", len(size))
        elif node.has("kernel_shape") and node.ints("kernel_shape") != kernel:
            node.refuse(
                f"kernel_shape {list(node.ints('kernel_shape'))} of a kernel {list(kernel)}"
            )
        strides = positive(node, "strides", len(size), 1)
        dilations = positive(node, "dilations", len(size), 1)
        mode = node.text("auto_pad", "NOTSET")
        span = spans(kernel, dilations)
        pads = _pads(node, mode, size, span, strides)
        extra = [0] * len(size)
        # auto_pad fixes the result's size by itself.
        if node.integer("ceil_mode", 0) and mode == "NOTSET":
            for i, k in enumerate(span):
                room = size[i] + pads[i] + pads[len(size) + i] - k
                count = max(-(-room // strides[i]) + 1, 1)
                # No window may start in the padding at the end.
                if (count - 1) * strides[i] >= size[i] + pads[i]:
                    count -= 1
                extra[i] = max((count - 1) * strides[i] - room, 0)
        return cls(size, kernel, strides, dilations, pads, tuple(extra))


def spatial(node: Node) -> Shape:
    """Spatial axes of operand 0: one to three.

    Raises:
        Unsupported: it has another number of axes.
    """
    shape = node.shape(0)
    if not 3 <= len(shape) <= 5:
        node.refuse(
            f"data of shape {list(shape)}: one to three spatial axes [N, C, D, H, W] are supported"
        )
    return shape[2:]


def positive(node: Node, name: str, count: int, default: int = 0) -> Shape:
    """A list attribute with a positive integer per spatial axis."""
    found = node.ints(name, (default,) * count if default else None)
    if len(found) != count or min(found, default=0) < 1:
        node.refuse(f"{name} must be {count} positive integers, not {list(found)}")
    return found


def spans(kernel: Sequence[int], dilations: Sequence[int]) -> Shape:
    """Elements from a window's first to its last, per axis."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))


def explicit_pads(node: Node, count: int) -> Shape:
    """The attribute pads; zeros by default."""
    pads = node.ints("pads", (0,) * 2 * count)
    if len(pads) != 2 * count or min(pads) < 0:
        node.refuse(f"pads must be {2 * count} integers, not negative: {list(pads)}")
    return pads


def _pads(node: Node, mode: str, size: Shape, span: Shape, strides: Shape) -> Shape:
    given = explicit_pads(node, len(size))
    if mode == "NOTSET":
        return given
    if mode == "VALID":
        return (0,) * 2 * len(size)
    totals = [
        max((-(-d // s) - 1) * s + k - d, 0) for d, k, s in zip(size, span, strides, strict=True)
    ]
    return divided(node, mode, totals)


def divided(node: Node, mode: str, totals: Sequence[int]) -> Shape:
    """Padding totals per axis, divided into begins and ends by auto_pad."""
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        node.refuse(f"auto_pad {mode}")
    small = [t // 2 for t in totals]
    large = [t - t // 2 for t in totals]
    return (*small, *large) if mode == "SAME_UPPER" else (*large, *small)
