"""ONNX Einsum: diagonals, sums, transposes, products and matrix products."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpcc.frontend.importer import Operand, type_of
from mpcc.frontend.onnx.indexing import rearranged
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


@dataclass(frozen=True)
class _Term:
    """A value with a label per axis; no label occurs twice."""

    value: Value
    labels: str

    def size(self, label: str) -> int:
        """Elements along a label."""
        return type_of(self.value).shape[self.labels.index(label)]


def _parsed(node: Node) -> tuple[list[str], str]:
    """Labels of every operand and of the result; an ellipsis becomes capital-free private ones."""
    equation = node.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(node.operands):
        node.refuse(f"equation {equation} of {len(node.operands)} operands")
    ranks = [len(node.shape(i)) for i in range(len(inputs))]
    spare = [chr(c) for c in range(0x3B1, 0x3B1 + 16)]
    width = 0
    for labels, rank in zip(inputs, ranks, strict=True):
        count = len(labels.replace("...", ""))
        if count > rank or ("..." not in labels and count != rank):
            node.refuse(f"equation {equation}: {labels} of data with {rank} axes")
        width = max(width, rank - count if "..." in labels else 0)
    # Dimensions of an ellipsis are aligned at their end.
    hidden = "".join(spare[:width])
    full = [
        labels.replace("...", hidden[width - (rank - len(labels.replace("...", ""))) :])
        for labels, rank in zip(inputs, ranks, strict=True)
    ]
    if arrow:
        return full, right.replace("...", hidden)
    named = "".join(full)
    once = sorted(c for c in set(named) - set(hidden) if named.count(c) == 1)
    return full, hidden + "".join(once)


def einsum(node: Node) -> Operand:
    """Einsum: all equations."""
    inputs, output = _parsed(node)
    if len(set(output)) != len(output) or not set(output) <= set("".join(inputs)):
        node.refuse(f"equation {node.text('equation')} repeats or invents a label of the result")
    sizes: dict[str, int] = {}
    for i, labels in enumerate(inputs):
        for label, size in zip(labels, node.shape(i), strict=True):
            if sizes.setdefault(label, size) == 1:
                sizes[label] = size
            if size not in (1, sizes[label]):
                node.refuse(f"label {label} of {size} and of {sizes[label]} elements")
    terms = [_distinct(node, node.value(i), labels) for i, labels in enumerate(inputs)]
    result = terms[0]
    for i, term in enumerate(terms[1:], start=1):
        wanted = set(output).union(*(t.labels for t in terms[i + 1 :]))
        result = _product(node, result, term, wanted)
    result = _summed(node, result, set(output))
    missing = [c for c in output if c not in result.labels]
    if missing:
        node.refuse(f"labels {missing} of the result")
    moved = node.transpose(result.value, [result.labels.index(c) for c in output])
    value = node.real(moved)
    shape = tuple(sizes[c] for c in output)
    return (
        value if type_of(value).shape == shape else node.emit(tensor.Broadcast, value, shape=shape)
    )


def _distinct(node: Node, x: Value, labels: str) -> _Term:
    """The operand; of an axis pair with one label, the diagonal."""
    if len(set(labels)) == len(labels):
        return _Term(x, labels)
    unique = "".join(dict.fromkeys(labels))
    shape = type_of(x).shape
    node.room(*shape)
    positions = np.arange(math.prod(shape)).reshape(shape)
    code = [unique.index(c) for c in labels]
    picked = np.einsum(positions, code, list(range(len(unique))))
    return _Term(rearranged(node, x, picked), unique)


def _summed(node: Node, term: _Term, wanted: set[str]) -> _Term:
    """The term without labels that nothing else has."""
    axes = tuple(i for i, c in enumerate(term.labels) if c not in wanted)
    if not axes:
        return term
    value = node.emit(tensor.ReduceSum, term.value, axes=axes, keepdims=False)
    return _Term(value, "".join(c for c in term.labels if c in wanted))


def _arranged(node: Node, term: _Term, labels: Sequence[str]) -> Value:
    """The value with exactly these labels in order; absent ones have one element."""
    present = [c for c in labels if c in term.labels]
    moved = node.transpose(term.value, [term.labels.index(c) for c in present])
    shape = tuple(term.size(c) if c in term.labels else 1 for c in labels)
    return node.real(node.reshape(moved, shape))


def _product(node: Node, a: _Term, b: _Term, wanted: set[str]) -> _Term:
    """Product of two terms, summed over labels that nothing later needs."""
    a = _summed(node, a, wanted | set(b.labels))
    b = _summed(node, b, wanted | set(a.labels))
    shared = [c for c in a.labels if c in b.labels]
    inner = [c for c in shared if c not in wanted and a.size(c) == b.size(c)]
    batch = [c for c in shared if c not in inner]
    rows = [c for c in a.labels if c not in shared]
    columns = [c for c in b.labels if c not in shared]
    if not inner:
        labels = [*batch, *rows, *columns]
        value = node.emit(tensor.Mul, _arranged(node, a, labels), _arranged(node, b, labels))
        return _summed(node, _Term(value, "".join(labels)), wanted)
    left = _arranged(node, a, [*batch, *rows, *inner])
    right = _arranged(node, b, [*batch, *inner, *columns])
    lead = type_of(left).shape[: len(batch)], type_of(right).shape[: len(batch)]
    m, n = (math.prod(t.size(c) for c in part) for t, part in ((a, rows), (b, columns)))
    k = math.prod(a.size(c) for c in inner)
    product = node.emit(
        tensor.MatMul,
        node.reshape(left, (*lead[0], m, k)),
        node.reshape(right, (*lead[1], k, n)),
    )
    shape = (
        *np.broadcast_shapes(*lead),
        *(a.size(c) for c in rows),
        *(b.size(c) for c in columns),
    )
    value = node.real(node.reshape(product, shape))
    return _summed(node, _Term(value, "".join([*batch, *rows, *columns])), wanted)


OPERATORS: Mapping[str, Operator] = {
    "Einsum": Operator(einsum),
}
"""Operator name -> how it is imported."""
