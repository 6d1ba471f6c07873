"""Which ring every part of a model is computed in, where the user leaves it open.

Words of 32 bits halve most messages, but products seldom fit them at the fraction bits that an
error budget takes. So several assignments are compared: all in 64 bits; all in 32; products in 64
and what is between them in 32; 32 bits for whatever fits them. Parts are those of
:func:`mpcc.ir.analysis.rings.units`. A part between products is put in 32 bits only where this
saves more than the casts around it take, as estimated from the secure programs with all such parts
in 32 and in 64 bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpcc.errors import MpccError
from mpcc.ir.analysis.rings import Rings, Unit, units
from mpcc.ir.core import Module, Op
from mpcc.ir.ops import secure
from mpcc.ir.phi import RINGS, FormatOptions, Phi
from mpcc.passes.analysis.price import ROUND_BYTES, Price, price
from mpcc.passes.analysis.ranges import NoFitError, Ranges
from mpcc.passes.lowerings import RULES, Lowering
from mpcc.passes.strip_names import labels

__all__ = ["Offer", "RingChoice"]

_SMALL, _LARGE = min(RINGS), max(RINGS)

_ATTEMPTS = 8
"""How often parts that do not fit are taken out, before none is left: each time all that do not."""


@dataclass(frozen=True)
class Offer:
    """Formats in some rings, and what they would cost.

    Attributes:
        phi: the formats.
        price: bytes and rounds.
        origins: per op of the secure program, the number of the tensor op whose lowering made it;
            of a cast into the larger ring, that of the op whose result is cast.
    """

    phi: Phi
    price: Price
    origins: tuple[int, ...] = field(repr=False)

    def by_origin(self) -> dict[int, float]:
        """Bytes per tensor op."""
        found: dict[int, float] = defaultdict(float)
        for i, size in zip(self.origins, self.price.ops, strict=True):
            found[i] += size
        return found


class _Traced(Lowering):
    """A lowering that knows which tensor op each secure op was made for."""

    def __init__(self, module: Module, phi: Phi, options: FormatOptions) -> None:
        super().__init__(module, phi, options, RULES)
        self.origins: list[int] = []

    def _lower(self, index: int, op: Op) -> None:
        super()._lower(index, op)
        ops = self.target.main.ops
        self.origins += [index] * (len(ops) - len(self.origins))

    def attributed(self) -> tuple[int, ...]:
        """``origins``, with casts into the larger ring at what they cast."""
        ops, found = self.target.main.ops, list(self.origins)
        made = {r: i for i, op in enumerate(ops) for r in op.results}
        for i, op in enumerate(ops):
            if op.definition is secure.Cast and op.attrs["ring"] == _LARGE:
                found[i] = found[made[op.operands[0]]]
        return tuple(found)


class RingChoice:
    """Assignments of rings to the ops of a module.

    Args:
        module: a tensor module.
        options: see :class:`FormatOptions`.
        ranges_of: what finds formats in given rings.
    """

    def __init__(
        self, module: Module, options: FormatOptions, ranges_of: Callable[[Rings], Ranges]
    ) -> None:
        self.module = module
        self.options = options
        self.units = units(module.main)
        self._ranges_of = ranges_of
        self._ranges: dict[Rings, Ranges] = {}
        self._formats: dict[tuple[Rings, int, int], Phi | NoFitError] = {}
        self._offers: dict[Phi, Offer | None] = {}
        self._saved: dict[tuple[int, ...], float] = {}
        self._misfits: dict[tuple[int, ...], str] = {}
        self._considered: dict[Rings, Offer] = {}
        users: dict[int, set[int]] = defaultdict(set)
        ops = module.main.ops
        made = {r: i for i, op in enumerate(ops) for r in op.results}
        for i, op in enumerate(ops):
            for value in op.operands:
                users[made[value]].add(i)
        self._users = users

    def ranges(self, rings: Rings) -> Ranges:
        """What finds formats in these rings."""
        if rings not in self._ranges:
            made = self._ranges[rings] = self._ranges_of(rings)
            if Rings(_LARGE) in self._ranges:
                # What is known of the values does not depend on rings.
                made.narrowed = self._ranges[Rings(_LARGE)].narrowed
        return self._ranges[rings]

    def formats(self, rings: Rings, frac: int, weight_frac: int) -> Phi | NoFitError:
        """Phi in these rings at these fraction bits, or what does not fit."""
        key = rings, frac, weight_frac
        if key not in self._formats:
            try:
                self._formats[key] = self.ranges(rings).formats(frac, weight_frac)
            except NoFitError as failure:
                self._formats[key] = failure
        return self._formats[key]

    def offer(self, phi: Phi) -> Offer | None:
        """What formats cost; None if an operator has no form in them."""
        if phi not in self._offers:
            lowering = _Traced(self.module, phi, self.options)
            try:
                found = price(lowering.run())
            except MpccError:
                if Rings.of_phi(phi) == Rings(_LARGE):
                    raise  # not a matter of the ring
                self._offers[phi] = None
            else:
                self._offers[phi] = Offer(phi, found, lowering.attributed())
        return self._offers[phi]

    def cheapest(self, found: Iterable[Phi]) -> Phi | None:
        """The formats that cost least, the first of equal ones; None if there are none."""
        found = list(found)
        # A clamp changes what the model computes: none is added for the sake of a smaller ring.
        wide = [phi for phi in found if Rings.of_phi(phi) == Rings(_LARGE)]
        if wide:
            found = [phi for phi in found if len(phi.clamps) <= len(wide[0].clamps)]
        offers = [offer for phi in found if (offer := self.offer(phi)) is not None]
        self._considered |= {Rings.of_phi(offer.phi): offer for offer in offers}
        if not offers:
            return None
        return min(offers, key=lambda offer: offer.price.total).phi

    def candidates(self, frac: int, weight_frac: int) -> list[Rings]:
        """All in 64 bits, all in 32, and mixtures that fit at these fraction bits."""
        found = [Rings(_LARGE), Rings(_SMALL), *self.between(frac, weight_frac)]
        return list(dict.fromkeys([*found, *self._mixtures(self.units, frac, weight_frac)]))

    def between(self, frac: int, weight_frac: int) -> list[Rings]:
        """Mixtures that fit at these fraction bits and have all products in 64 bits."""
        wanted = [unit for unit in self.units if not unit.multiplies]
        return self._mixtures(wanted, frac, weight_frac)

    def _mixtures(self, wanted: Sequence[Unit], frac: int, weight_frac: int) -> list[Rings]:
        """Of these units those in 32 bits that fit, and those between products that pay."""
        fitting = self._fitting(wanted, frac, weight_frac)
        products = [unit for unit in fitting if unit.multiplies]
        between = [unit for unit in fitting if not unit.multiplies]
        if not fitting:
            return []
        narrow, wide = (self._offer_of(chosen, frac, weight_frac) for chosen in (fitting, products))
        if narrow is None:
            return []
        if wide is None or not between:
            return [self._rings(fitting)]
        below, above = narrow.by_origin(), wide.by_origin()
        for unit in between:
            self._saved[unit.ops] = sum(above.get(i, 0) - below.get(i, 0) for i in unit.ops)
        # Casts take rounds as well: about one for each part that pays.
        return [
            self._rings([*products, *(u for u in between if self._saved[u.ops] > least)])
            for least in (0, ROUND_BYTES)
        ]

    def _fitting(self, wanted: Sequence[Unit], frac: int, weight_frac: int) -> list[Unit]:
        """Those units of ``wanted`` whose values fit 32 bits."""
        of = {i: unit for unit in self.units for i in unit.ops}
        chosen = list(wanted)
        for _ in range(_ATTEMPTS):
            if not chosen:
                break
            found = self.formats(self._rings(chosen), frac, weight_frac)
            if isinstance(found, Phi):
                return chosen
            numbers = {op: i for i, op in enumerate(self.module.main.ops)}
            narrow = set(chosen)
            misfit: set[Unit] = set()
            for wide in found.misfits:
                around = {numbers[wide.op]}
                hit: set[Unit] = set()
                # A value may fit its own ring, but not the one that it goes on to.
                while around and not hit:
                    hit = {of[i] for i in around if i in of} & narrow
                    around = {k for i in around for k in self._users[i]}
                for unit in hit:
                    room, name = wide.room, wide.op.name
                    self._misfits[unit.ops] = (
                        f"{name} takes {wide.bits} bits of range where {max(room.bits, 0)} are "
                        f"left beside {room.frac} fraction bits"
                    )
                misfit |= hit
            if not misfit:
                return []
            chosen = [unit for unit in chosen if unit not in misfit]
        return []

    def _rings(self, narrow: Iterable[Unit]) -> Rings:
        return Rings.of_narrow(self.module, {i for unit in narrow for i in unit.ops})

    def _offer_of(self, narrow: Iterable[Unit], frac: int, weight_frac: int) -> Offer | None:
        found = self.formats(self._rings(narrow), frac, weight_frac)
        return self.offer(found) if isinstance(found, Phi) else None

    def is_shorter(self, phi: Phi, wide: Phi) -> bool:
        """Whether formats take fewer bytes than others, and no clamps more."""
        one, other = self.offer(phi), self.offer(wide)
        if one is None or other is None or len(phi.clamps) > len(wide.clamps):
            return False
        self._considered |= {Rings.of_phi(offer.phi): offer for offer in (one, other)}
        return one.price.bytes < other.price.bytes

    # --- the owner's report ---

    def report(self, phi: Phi) -> dict[str, Any]:
        """What was compared, and the ring of every part with the reason: plain data for JSON."""
        chosen = Rings.of_phi(phi)
        names = {id(op): label for op, label in labels(self.module)}
        ops = self.module.main.ops
        rows = []
        for unit in self.units:
            ring = chosen.of(unit.ops[0])
            rows.append(
                {
                    "layers": [names[id(ops[i])] for i in unit.ops],
                    "nodes": list(dict.fromkeys(ops[i].loc for i in unit.ops if ops[i].loc)),
                    "ring": ring,
                    "why": self._reason(unit, ring),
                }
            )
        considered = [
            {
                "rings": _told(rings),
                "frac": offer.phi.frac,
                "weight_frac": offer.phi.weight_frac,
                "bytes": round(offer.price.bytes),
                "rounds": offer.price.rounds,
                "chosen": rings == chosen,
            }
            for rings, offer in self._considered.items()
        ]
        return {"round_bytes": ROUND_BYTES, "considered": considered, "parts": rows}

    def _reason(self, unit: Unit, ring: int) -> str:
        saved = self._saved.get(unit.ops)
        if ring == _LARGE and unit.ops in self._misfits:
            return f"does not fit {_SMALL} bits: {self._misfits[unit.ops]}"
        if ring == _SMALL:
            why = "all values fit, and words of half the length are sent"
            return f"{why}: about {round(saved)} bytes less" if saved and saved > 0 else why
        if saved is not None and saved <= 0:
            return f"fits {_SMALL} bits, but the casts around it would take {-round(saved)} bytes"
        if saved is not None and saved <= ROUND_BYTES:
            return (
                f"fits {_SMALL} bits, but saves less ({round(saved)} bytes) than rounds are worth"
            )
        return "the cheapest of the assignments considered has it in 64 bits"


def _told(rings: Rings) -> str:
    if not rings.others:
        return str(rings.main)
    other = _LARGE if rings.main == _SMALL else _SMALL
    return f"{rings.main}, {len(rings.others)} ops in {other}"
