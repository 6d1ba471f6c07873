"""What every tensor operator becomes at the secure level: one rule each, one file per family."""

from __future__ import annotations

from mpcc.passes.lowerings import (
    calls,
    compare,
    elementwise,
    functions,
    io,
    linear,
    normal,
    pool,
    structural,
    tokens,
    trees,
)
from mpcc.passes.lowerings import reduce as reductions
from mpcc.passes.lowerings.base import Lowering, Rule, Rules, secure_type

__all__ = ["RULES", "Lowering", "Rule", "Rules", "secure_type"]

_FAMILIES = (
    io,
    linear,
    elementwise,
    functions,
    normal,
    compare,
    reductions,
    pool,
    structural,
    tokens,
    calls,
    trees,
)

RULES: Rules = {op: rule for family in _FAMILIES for op, rule in family.RULES.items()}
"""Declaration -> rule, for every operator but ``tensor.weight``."""
