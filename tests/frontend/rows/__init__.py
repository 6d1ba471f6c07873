"""The rows of all families."""

from tests.frontend.rows import (
    attention,
    compare,
    control,
    einsum,
    elementwise,
    functions,
    indexing,
    layers,
    normal,
    quantised,
    recurrent,
    reduce,
    resize,
    structure,
    tokens,
)

ROWS = [
    *elementwise.ROWS,
    *functions.ROWS,
    *compare.ROWS,
    *layers.ROWS,
    *normal.ROWS,
    *reduce.ROWS,
    *structure.ROWS,
    *indexing.ROWS,
    *resize.ROWS,
    *einsum.ROWS,
    *attention.ROWS,
    *recurrent.ROWS,
    *control.ROWS,
    *tokens.ROWS,
    *quantised.ROWS,
]
