"""Secure forms of decision trees.

All conditions of all trees are one product with one-hot columns and one comparison. Which leaf is
reached then follows from the bits as words 0 and 1, in one of two ways, level by level:

* *products*: a node is reached (r, a word) and goes right (w): r w is the word of its right child,
  r - r w that of its left one. A round per level, and a message for either word, since a product
  is reshared after the sums that it is in.
* *sums*: the conditions that fail on the way to a leaf are counted, which is local, and the count
  is compared with zero: two rounds for the comparison of a few bits, two for words again.

Trees of up to two levels take products, those of four or more take sums; between them bytes and
rounds decide (:func:`summed`). The result is the product of the leaves' words with their
values: the words have no fraction, so that it is an activation and is not truncated.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.ops.tensor import forest_levels
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import add, subtract

__all__ = ["ROUND_BYTES", "RULES", "summed"]

_RING = 32
"""The smaller ring."""

_WIDEST = _RING - 3
"""Bits of a number in the smaller ring, as the analysis has it of any ring."""

ROUND_BYTES = 125_000
"""What a link of 10 Gbit/s carries in 0.1 ms, the time of a message: as for comparisons."""

_SUM_ROUNDS, _CAST_ROUNDS = 4, 2


def summed(nodes: int, leaves: int, trees: int, depth: int, rows: int, ring: int) -> bool:
    """Whether failed conditions are counted, rather than words multiplied.

    Both are compared by their time on a link, which carries a third of all bytes. Products take as
    many rounds as there are levels, and two words for every node but the roots; sums take 4
    rounds, and a word and half a byte for every leaf.
    """
    word = ring // 8
    products = depth * ROUND_BYTES + 2 * (nodes - trees) * rows * word
    sums = _SUM_ROUNDS * ROUND_BYTES + leaves * rows * (word + 0.5)
    return sums < products


# --- conditions ----------------------------------------------------------------------------------


def _branch(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The bits [t - x < 0], in the smaller ring where they fit: they are the same."""
    x, loc, frac = lowering.act(op.operands[0]), op.loc, lowering.phi.frac
    shape = tensor_type(op.result).shape
    # One bit more for the difference.
    width = max(secure_type(x).width, lowering.width(lowering.phi.weight_bits, frac)) + 1
    ring = _RING if width <= _WIDEST else lowering.ring
    with lowering.within(ring):
        x = lowering.cast(x, loc)
        if len(operands) == 3:
            places = lowering.const(op.operands[2], 0)
            # Every column takes one number as it is.
            attrs = {"width": secure_type(x).width}
            x = lowering.emit(secure.MatMul, [x, places], attrs, loc)
        thresholds = lowering.const(op.operands[1], frac)
        thresholds = lowering.spread(thresholds, shape, loc)
        difference = subtract(lowering, thresholds, x, loc)
        return [lowering.emit(secure.Negative, [difference], {}, loc)]


# --- leaves --------------------------------------------------------------------------------------


def _forest(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, own = op.loc, lowering.phi.frac, lowering.ring
    rows, nodes = tensor_type(op.operands[0]).shape
    leaves = tensor_type(op.operands[1]).shape[0]
    width = lowering.result_width(op, frac)
    fits = max(width, lowering.width(lowering.phi.weight_bits, frac)) <= _WIDEST
    # Four bytes less on every link for every word, against the rounds of the way back.
    saved = 4 * (nodes + leaves) * rows
    ring = _RING if own > _RING and fits and saved > _CAST_ROUNDS * ROUND_BYTES else own
    with lowering.within(ring):
        words = _reached(lowering, op, operands[0])
        values = lowering.const(op.operands[1], frac)
        total = lowering.emit(secure.MatMul, [words, values], {"width": width}, loc)
    return [lowering.cast(total, loc)]


def _reached(lowering: Lowering, op: Op, bits: Value) -> Value:
    """Words [B, L]: which leaves are reached."""
    loc, attrs = op.loc, op.attrs
    rows, nodes = tensor_type(op.operands[0]).shape
    leaves = tensor_type(op.operands[1]).shape[0]
    roots, left, right = (attrs[k] for k in ("roots", "left", "right"))
    levels = forest_levels(roots, left, right)
    words = lowering.word(bits, loc)
    inner = sum(n >= 0 for n in roots)
    counting = summed(nodes, leaves, inner, len(levels), rows, lowering.ring)
    parts: list[Value] = []
    order: list[int] = []
    alone = [n for n in roots if n < 0]
    if alone:
        # Trees of one leaf, which is always reached.
        parts.append(lowering.constant(words, 0 if counting else 1, (rows, len(alone)), loc))
        order += alone
    state: Value | None = None
    for depth, level in enumerate(levels):
        goes = _columns(lowering, words, level, loc)
        both = _children(lowering, state, goes, depth, counting, loc)
        below = [left[n] for n in level] + [right[n] for n in level]
        ends = [i for i, n in enumerate(below) if n < 0]
        if ends:
            parts.append(_columns(lowering, both, ends, loc))
            order += [below[i] for i in ends]
        state = _columns(lowering, both, [i for i, n in enumerate(below) if n >= 0], loc)
    found = _joined(lowering, parts, loc)
    if counting:
        found = _none_failed(lowering, found, len(levels), loc)
    place = {leaf: i for i, leaf in enumerate(order)}
    return _columns(lowering, found, [place[-1 - i] for i in range(leaves)], loc)


def _children(
    lowering: Lowering, state: Value | None, goes: Value, depth: int, counting: bool, loc: str
) -> Value:
    """Words, or counts, of the left and then of the right children of a level's nodes."""
    one = lowering.constant(goes, 1, secure_type(goes).shape, loc)
    other = subtract(lowering, one, goes, loc, 1)
    if state is None:
        # To the left of a root is reached where its bit is zero; there a bit that is one fails.
        pair = [goes, other] if counting else [other, goes]
    elif counting:
        width = (depth + 1).bit_length()
        pair = [add(lowering, state, g, width, loc) for g in (goes, other)]
    else:
        taken = lowering.emit(secure.Mul, [state, goes], {"width": 1}, loc)
        pair = [subtract(lowering, state, taken, loc, 1), taken]
    return lowering.emit(secure.Concat, pair, {"axis": 1}, loc)


def _none_failed(lowering: Lowering, counts: Value, depth: int, loc: str) -> Value:
    """Words of counts that are zero: [count - 1 < 0]."""
    shape = secure_type(counts).shape
    width = max(1, (depth - 1).bit_length())
    one = lowering.constant(counts, 1, shape, loc)
    below = subtract(lowering, counts, one, loc, width)
    return lowering.word(lowering.emit(secure.Negative, [below], {}, loc), loc)


def _joined(lowering: Lowering, parts: Sequence[Value], loc: str) -> Value:
    """Parts of different widths side by side."""
    width = max(secure_type(p).width for p in parts)
    wide = [
        p
        if secure_type(p).width == width
        else lowering.emit(secure.ShiftLeft, [p], {"amount": 0, "width": width}, loc)
        for p in parts
    ]
    return wide[0] if len(wide) == 1 else lowering.emit(secure.Concat, wide, {"axis": 1}, loc)


def _columns(lowering: Lowering, x: Value, indices: Sequence[int], loc: str) -> Value:
    """Columns of a matrix; a run of them is a slice."""
    rows, size = secure_type(x).shape
    wanted = list(indices)
    if wanted == list(range(size)) or not wanted:
        return x
    first, end = wanted[0], wanted[0] + len(wanted)
    if wanted == list(range(first, end)):
        attrs = {"starts": (0, first), "limits": (rows, end), "strides": (1, 1)}
        return lowering.emit(secure.Slice, [x], attrs, loc)
    return lowering.emit(secure.Gather, [x], {"axis": 1, "indices": tuple(wanted)}, loc)


RULES: Rules = {tensor.Branch: _branch, tensor.Forest: _forest}
