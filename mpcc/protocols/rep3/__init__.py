"""rep3: replicated secret sharing over Z_2^l among three parties, semi-honest, honest majority.

After Araki, Furukawa, Lindell, Nof, Ohara, "High-Throughput Semi-Honest Secure Three-Party
Computation with an Honest Majority" (CCS 2016), with comparison, select and truncation of its own;
docs/protocols.md has every step, its cost and why its messages are uniform.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op
from mpcc.protocols.base import Add3, Builder, Protocol, Public, Rep, Share
from mpcc.protocols.rep3 import bits, cast, comparison, fourier, linear, select, sharing, truncation
from mpcc.protocols.rep3.linear import Secret

__all__ = ["Rep3"]


def _product(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    factors = [sharing.to_rep(builder, x) if isinstance(x, Add3) else x for x in operands]
    return linear.rule_product(builder, op, factors)


def _border(builder: Builder, share: Secret) -> Rep | Public:
    """Replicated, or public as it is; a pair that was known before is forgotten."""
    if isinstance(share, Public):
        return share
    found = sharing.to_rep(builder, share)
    return Rep(found.own, found.next)


class Rep3(Protocol):
    """Replicated secret sharing, three parties."""

    name = "rep3"
    summary = "replicated secret sharing among three parties"
    threat_model = "semi-honest, at most one of the three parties curious; owners are honest"
    steps = (
        *sharing.STEPS,
        *truncation.STEPS,
        *comparison.STEPS,
        *select.STEPS,
        *bits.STEPS,
        *cast.STEPS,
        *fourier.STEPS,
    )
    rules = {
        "secure.input": sharing.rule_input,
        "secure.weight": sharing.rule_weight,
        "secure.reveal": sharing.rule_reveal,
        "secure.conv": _product,
        "secure.matmul": _product,
        "secure.mul": _product,
        "secure.add": linear.rule_linear,
        "secure.sub": linear.rule_linear,
        "secure.shift_left": linear.rule_linear,
        "secure.scale": linear.rule_linear,
        "secure.reduce_sum": linear.rule_linear,
        "secure.truncate": cast.rule_truncate,
        "secure.cast": cast.rule_cast,
        "secure.negative": comparison.rule_negative,
        "secure.select": select.rule_select,
        "secure.from_bit": select.rule_from_bit,
        "secure.clamp": select.rule_clamp,
        "secure.fourier": fourier.rule_fourier,
        "secure.broadcast": bits.rule_structural,
        "secure.reshape": bits.rule_structural,
        "secure.transpose": bits.rule_structural,
        "secure.pad": bits.rule_structural,
        "secure.slice": bits.rule_structural,
        "secure.gather": bits.rule_structural,
        "secure.concat": bits.rule_structural,
    }

    def border(self, builder: Builder, share: Secret) -> Share:
        """See :meth:`mpcc.protocols.base.Protocol.border`."""
        return _border(builder, share)
