"""rep3: replicated secret sharing over Z_2^l among three parties, semi-honest, honest majority.

After Araki, Furukawa, Lindell, Nof, Ohara, "High-Throughput Semi-Honest Secure Three-Party
Computation with an Honest Majority" (CCS 2016), with comparison, select and truncation of its own;
docs/protocols.md has every step, its cost and why its messages are uniform.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op
from mpcc.protocols.base import Add3, Builder, Protocol
from mpcc.protocols.rep3 import comparison, linear, select, sharing, truncation
from mpcc.protocols.rep3.linear import Secret

__all__ = ["Rep3"]


def _product(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    factors = [sharing.to_rep(builder, x) if isinstance(x, Add3) else x for x in operands]
    return linear.rule_product(builder, op, factors)


class Rep3(Protocol):
    """Replicated secret sharing, three parties."""

    name = "rep3"
    summary = "replicated secret sharing among three parties"
    threat_model = "semi-honest, at most one of the three parties curious; owners are honest"
    steps = (*sharing.STEPS, *truncation.STEPS, *comparison.STEPS, *select.STEPS)
    rules = {
        "secure.input": sharing.rule_input,
        "secure.weight": sharing.rule_weight,
        "secure.reveal": sharing.rule_reveal,
        "secure.conv": _product,
        "secure.matmul": _product,
        "secure.add": linear.rule_elementwise,
        "secure.sub": linear.rule_elementwise,
        "secure.shift_left": linear.rule_elementwise,
        "secure.truncate": truncation.rule_truncate,
        "secure.negative": comparison.rule_negative,
        "secure.select": select.rule_select,
        "secure.clamp": select.rule_clamp,
        "secure.broadcast": linear.rule_shape,
        "secure.reshape": linear.rule_shape,
        "secure.transpose": linear.rule_shape,
        "secure.pad": linear.rule_shape,
        "secure.slice": linear.rule_shape,
        "secure.concat": linear.rule_shape,
    }
