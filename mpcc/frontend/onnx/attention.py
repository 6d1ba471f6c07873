"""ONNX attention: Attention with masks, caches and shared heads; RotaryEmbedding.

What may look at what (a causal order, a window, the length of a cache) is public and becomes a
public constant. Masks that are computed, or are an input, stay secret: they are added to the scores
as -1024, of which a softmax leaves nothing (:func:`mpcc.frontend.onnx.normal.unmasked`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.compose import cut, scaled
from mpcc.frontend.onnx.indexing import gathered, masked
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.normal import MASK, unmasked
from mpcc.frontend.onnx.tokens import looked_up_rows
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["OPERATORS"]


def attention(node: Node) -> tuple[Operand, ...]:
    """Attention: of any heads, with masks, caches and windows; secret masks stay secret."""
    flat = len(node.shape(0)) == 3
    heads = node.integer("q_num_heads", 0), node.integer("kv_num_heads", 0)
    query, key, value = (_split(node, i, heads[min(i, 1)], flat) for i in range(3))
    past = 0
    if node.optional(4) is not None:
        past = node.shape(4)[2]
        key, value = (
            node.emit(tensor.Concat, node.value(i), x, axis=2) for i, x in ((4, key), (5, value))
        )
    present = key, value
    groups = type_of(query).shape[1] // type_of(key).shape[1]
    if groups > 1:
        # One head of keys and values serves several of queries, which follow each other.
        shared = np.arange(type_of(key).shape[1]).repeat(groups)
        key, value = (gathered(node, x, 1, shared) for x in (key, value))

    size = type_of(query).shape[3]
    scale = node.number("scale", 0.0) if node.has("scale") else 0.0
    query = scaled(node, query, scale or 1.0 / math.sqrt(size))
    raw = node.emit(tensor.MatMul, query, node.emit(tensor.Transpose, key, perm=(0, 1, 3, 2)))
    limit = node.number("softcap", 0.0)
    if limit:
        # Before the mask, which it would make a number like others.
        raw = scaled(node, node.emit(tensor.Tanh, scaled(node, raw, 1.0 / limit)), limit)
    biased, blind = _biased(node, raw, past)
    weights = node.emit(tensor.Softmax, unmasked(node, biased), axis=3)
    if blind.any():
        # A query that sees no key gives zeros.
        shape = type_of(weights).shape
        node.room(*shape)
        places = 1 + np.arange(element_count(shape)).reshape(shape)
        weights = masked(node, weights, np.where(blind, 0, places))
    result = node.emit(tensor.MatMul, weights, value)
    if flat:
        result = node.emit(tensor.Transpose, result, perm=(0, 2, 1, 3))
        batch, length, count, width = type_of(result).shape
        result = node.emit(tensor.Reshape, result, shape=(batch, length, count * width))
    mode = node.integer("qk_matmul_output_mode", 0)
    if any(node.used[3:]) and (mode not in (0, 3) or (mode == 0 and limit)):
        node.refuse(f"the scores of mode {mode}", "use those before masks (0) or the weights (3)")
    return result, *present, raw if mode == 0 else weights


def _split(node: Node, index: int, heads: int, flat: bool) -> Value:
    """Operand [batch, length, heads * size] or [batch, heads, length, size] as the latter."""
    x, shape = node.value(index), node.shape(index)
    if not flat:
        return x
    if heads < 1 or shape[2] % heads:
        node.refuse(f"{heads} heads of data {list(shape)}")
    wide = (*shape[:2], heads, shape[2] // heads)
    return node.emit(tensor.Transpose, node.emit(tensor.Reshape, x, shape=wide), perm=(0, 2, 1, 3))


def _biased(node: Node, scores: Value, past: int) -> tuple[Value, Array]:
    """Scores [batch, heads, queries, keys] with what may not be seen far below the others.

    Also, of every query, whether it is known to see nothing.
    """
    shape = type_of(scores).shape
    seen = _visible(node, shape, past)
    mask = node.optional(3)
    added: list[Operand] = []
    if isinstance(mask, Constant):
        if mask.array.dtype.kind == "b":
            node.public_mask(mask)
            node.room(*mask.array.shape[:-1], shape[3])
            node.room(*np.broadcast_shapes(seen.shape, (*mask.array.shape[:-1], shape[3])))
            seen = seen & _padded(mask.array, shape[3], False)
        else:
            width = shape[3]
            added.append(
                node.builder.derive(
                    mask,
                    f"mask_{width}",
                    lambda a: np.maximum(_padded(a.astype(np.float64), width, -MASK), -MASK),
                    (*mask.array.shape[:-1], width),
                )
            )
    elif mask is not None:
        added.append(_secret_mask(node, mask, shape[3]))
    blind = np.asarray(~seen.any(axis=-1, keepdims=True))
    seen = seen | blind
    if not seen.all():
        added.append(node.public(f"unseen_{past}", np.where(seen, 0.0, -MASK)))
    for each in added:
        scores = node.emit(tensor.Add, scores, each)
    return scores, blind


def _padded(array: Array, width: int, value: float | bool) -> Array:
    """A mask whose last axis ends early, up to all keys."""
    more = width - array.shape[-1]
    return np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, more)], constant_values=value)


def _secret_mask(node: Node, mask: Value, width: int) -> Value:
    """A mask that is computed, as numbers to add."""
    if node.kind(3) == onnx.TensorProto.BOOL:
        # -1024 where it is 0, exactly.
        mask = scaled(node, node.real(mask), MASK)
        mask = node.emit(tensor.Sub, mask, node.public("far", MASK))
    shape = type_of(mask).shape
    if shape[-1] < width:
        high = (*[0] * (len(shape) - 1), width - shape[-1])
        mask = node.emit(tensor.Pad, mask, low=(0,) * len(shape), high=high, value=-MASK)
    return mask


def _visible(node: Node, shape: Shape, past: int) -> Array:
    """Which keys a query may see by its place alone: [queries, keys], or [batch, 1, ...] of it.

    [1, 1] if it sees all of them.
    """
    queries, keys = shape[2:]
    lengths = None
    causal = bool(node.integer("is_causal", 0))
    left, right = (node.integer(f"{side}_window_size", -1) for side in ("left", "right"))
    if node.optional(6) is not None:
        lengths = np.array(node.integers(6, "its list of lengths")).reshape(-1, 1, 1, 1)
        past = 0
    offset = past if lengths is None else lengths - queries
    if not causal and left < 0 and right < 0 and lengths is None:
        return np.ones((1, 1), bool)
    node.room(1 if lengths is None else lengths.size, queries, keys)
    at = np.arange(queries)[:, None] + offset
    places = np.arange(keys)
    seen = np.ones((queries, keys), bool)
    if causal:
        seen = seen & (places <= at)
    if left >= 0:
        seen = seen & (at - places <= left)
    if right >= 0:
        seen = seen & (places - at <= right)
    return seen if lengths is None else seen & (places < lengths)


# --- rotary embedding ----------------------------------------------------------------------------


def rotary_embedding(node: Node) -> Operand:
    """RotaryEmbedding: pairs of channels, turned by angles that belong to public positions."""
    shape, heads = node.shape(0), node.integer("num_heads", 0)
    x = node.value(0)
    if len(shape) == 3:
        if heads < 1 or shape[2] % heads:
            node.refuse(f"{heads} heads of data {list(shape)}")
        x = node.emit(tensor.Reshape, x, shape=(*shape[:2], heads, shape[2] // heads))
    else:
        x = node.emit(tensor.Transpose, x, perm=(0, 2, 1, 3))
    size = type_of(x).shape[3]
    turned = node.integer("rotary_embedding_dim", 0) or size
    cos, sin = (_angles(node, i) for i in (1, 2))
    interleaved = bool(node.integer("interleaved", 0))
    half = turned // 2
    if interleaved:
        a, b = (cut(node, x, 3, start, turned, 2) for start in (0, 1))
    else:
        a, b = cut(node, x, 3, 0, half), cut(node, x, 3, half, turned)
    first = node.emit(tensor.Sub, node.emit(tensor.Mul, a, cos), node.emit(tensor.Mul, b, sin))
    second = node.emit(tensor.Add, node.emit(tensor.Mul, a, sin), node.emit(tensor.Mul, b, cos))
    parts = [node.emit(tensor.Concat, first, second, axis=3)]
    if interleaved:
        order = np.arange(turned).reshape(2, half).T.reshape(-1)
        parts = [gathered(node, parts[0], 3, order)]
    if turned < size:
        parts.append(cut(node, x, 3, turned, size))
    joined = parts[0] if len(parts) == 1 else node.emit(tensor.Concat, *parts, axis=3)
    if len(shape) == 3:
        return node.emit(tensor.Reshape, joined, shape=shape)
    return node.emit(tensor.Transpose, joined, perm=(0, 2, 1, 3))


def _angles(node: Node, index: int) -> Operand:
    """A cache of sines or cosines at the data's positions, [batch, length, 1, half]."""
    cache = node.operand(index)
    places = node.optional(3)
    if places is None:
        batch, length, half = type_of(cache).shape
        return node.reshape(cache, (batch, length, 1, half))
    if isinstance(places, Value):
        rows = looked_up_rows(node, cache, node.value(3))
        return node.reshape(rows, (*node.shape(3), 1, type_of(cache).shape[1]))
    taken = node.integers(3, "its list of positions")
    wanted = (*node.shape(3), 1, type_of(cache).shape[1])
    if isinstance(cache, Constant):
        suffix = f"rows_of_{places.name}"
        return node.builder.derive(
            cache, suffix, lambda a: a[np.array(taken)].reshape(wanted), wanted
        )
    return node.reshape(gathered(node, cache, 0, np.array(taken)), wanted)


OPERATORS: Mapping[str, Operator] = {
    "Attention": Operator(
        attention,
        "computed lengths of a cache; scores between mask and softmax",
        "softmax_precision left_window_size right_window_size",
    ),
    "RotaryEmbedding": Operator(rotary_embedding),
}
"""Operator name -> how it is imported."""
