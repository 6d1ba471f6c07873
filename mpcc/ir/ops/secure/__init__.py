"""Secure-level operators: fixed-point tensors in Z_2^ring, independent of any protocol.

Every approximation of the compiled program is visible here: formats, truncations, clamps and the
widths at which comparisons work. ``evaluate`` is the exact reference on raw values: int64 arrays
that hold centred representatives modulo 2^ring, boolean arrays for bits. An op's ``width``
attribute is the certified (or, under an observed range policy, assumed) k of its result,
``|raw| < 2^k``; it comes from the format analysis and is not derived here.

One file per family; a family's ``OPERATIONS`` and ``__all__`` make an operator part of the dialect
and of this package.
"""

from mpcc.ir.define import Dialect
from mpcc.ir.ops.secure import calls, comparison, function, io, linear, structural
from mpcc.ir.ops.secure.base import MAX_CAST_SLACK as MAX_CAST_SLACK
from mpcc.ir.ops.secure.base import MAX_TRUNCATE_SLACK as MAX_TRUNCATE_SLACK
from mpcc.ir.ops.secure.base import Context as Context
from mpcc.ir.ops.secure.base import Product as Product
from mpcc.ir.ops.secure.base import SecureOperation as SecureOperation
from mpcc.ir.ops.secure.base import Structural as Structural
from mpcc.ir.ops.secure.base import wrap as wrap
from mpcc.ir.ops.secure.calls import *  # noqa: F403
from mpcc.ir.ops.secure.comparison import *  # noqa: F403
from mpcc.ir.ops.secure.function import *  # noqa: F403
from mpcc.ir.ops.secure.io import *  # noqa: F403
from mpcc.ir.ops.secure.linear import *  # noqa: F403
from mpcc.ir.ops.secure.structural import *  # noqa: F403

_FAMILIES = (io, linear, comparison, function, structural, calls)

DIALECT = Dialect.of("secure", [op for family in _FAMILIES for op in family.OPERATIONS])
"""All secure-level operators."""
