"""The rows of all families."""

from tests.frontend.rows import (
    compare,
    einsum,
    elementwise,
    indexing,
    layers,
    reduce,
    resize,
    structure,
)

ROWS = [
    *elementwise.ROWS,
    *compare.ROWS,
    *layers.ROWS,
    *reduce.ROWS,
    *structure.ROWS,
    *indexing.ROWS,
    *resize.ROWS,
    *einsum.ROWS,
]
