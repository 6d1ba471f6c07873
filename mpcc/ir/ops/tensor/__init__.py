"""Tensor-level operators: the model as real-valued arrays, with an owner for every value.

Shapes are static, layouts are ONNX's (NCHW data, OIHW kernels). The visibility of a result is the
join of its operands': ``public``, one owner, or ``secret`` once owners mix. Values of weights are
never in the IR: ``tensor.weight`` names an array that its owner keeps beside the module.

One file per family. An operator is declared there once: operands, attributes, inference, numpy
reference, range rule, and the kind that says how fixed point treats it. A family's ``OPERATIONS``
and ``__all__`` make it part of the dialect and of this package.
"""

from mpcc.ir.define import Dialect
from mpcc.ir.ops.tensor import (
    calls,
    compare,
    elementwise,
    functions,
    io,
    linear,
    normal,
    pool,
    reduce,
    structural,
    tokens,
    trees,
)
from mpcc.ir.ops.tensor.base import Kind as Kind
from mpcc.ir.ops.tensor.base import Monotone as Monotone
from mpcc.ir.ops.tensor.base import TensorOperation as TensorOperation
from mpcc.ir.ops.tensor.calls import *  # noqa: F403
from mpcc.ir.ops.tensor.compare import *  # noqa: F403
from mpcc.ir.ops.tensor.elementwise import *  # noqa: F403
from mpcc.ir.ops.tensor.functions import *  # noqa: F403
from mpcc.ir.ops.tensor.io import *  # noqa: F403
from mpcc.ir.ops.tensor.linear import *  # noqa: F403
from mpcc.ir.ops.tensor.normal import *  # noqa: F403
from mpcc.ir.ops.tensor.pool import *  # noqa: F403
from mpcc.ir.ops.tensor.reduce import *  # noqa: F403
from mpcc.ir.ops.tensor.structural import *  # noqa: F403
from mpcc.ir.ops.tensor.tokens import *  # noqa: F403
from mpcc.ir.ops.tensor.trees import *  # noqa: F403

_FAMILIES = (
    io,
    linear,
    elementwise,
    functions,
    normal,
    compare,
    reduce,
    pool,
    structural,
    tokens,
    calls,
    trees,
)

DIALECT = Dialect.of("tensor", [op for family in _FAMILIES for op in family.OPERATIONS])
"""All tensor-level operators."""
