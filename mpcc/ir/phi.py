"""Phi: everything that a compiled program discloses about its weights and calibration data.

The analysis runs at the model owner and sees weights and calibration data; the build sees the
architecture, Phi and the options alone. Phi is therefore kept short: small integers and enumerated
choices, printed in reports with their size in bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from mpcc.errors import MpccError

__all__ = [
    "BITS_MAX",
    "BITS_MIN",
    "DEFAULT_RING",
    "DISCLOSE",
    "MAX_COARSE",
    "MAX_ROUND_BYTES",
    "POLICIES",
    "FormatOptions",
    "Phi",
]

POLICIES = ("proved", "guarded", "observed")
"""How ranges are known: by proof, observed with clamps that make the rest certain, observed."""

DECLARED = "declared"
"""The policy of a program whose owner promised the range of all values (``--value-range``)."""

DISCLOSE = ("none", "per-model", "per-tensor")
"""What the formats may tell about weights and data: nothing, one range, a range per tensor."""

DEFAULT_WEIGHT_RANGE = 8.0
"""Every weight is taken to be smaller than this, under ``--disclose none``."""

BITS_MIN = -8
BITS_MAX = 55
"""Range exponents are clipped to these, so that each takes 6 bits of Phi."""

DEFAULT_RANGE = (-8.0, 8.0)

DEFAULT_RING = 64
"""The program's, where nodes are named that have another one."""

RINGS = (32, 64)

_RING_BITS, _POLICY_BITS, _FRAC_BITS, _RANGE_BITS, _OP_BITS, _PATTERN_BITS = 1, 2, 6, 6, 24, 8
_COARSE_BITS = 4

MAX_ROUND_BYTES = 1 << 40
"""Most bytes that a link is taken to carry in the time of a round."""

MAX_COARSE = (1 << _COARSE_BITS) - 1
"""Most bits that a comparison may leave out."""

_OPTIONAL = ("others", "patterns", "coarse")
"""What stands in JSON only where there is any."""


@dataclass(frozen=True)
class FormatOptions:
    """What the user asks of the numbers; known to everyone who builds the artifact.

    Attributes:
        policy: ``proved``, ``guarded`` or ``observed``; None means observed with calibration
            data and proved without.
        input_ranges: (lo, hi) of named inputs, enforced by the client library; widened to the
            nearest binary32 numbers.
        max_error: largest deviation from the float model that any output may have.
        disclose: ``per-tensor``: Phi has one range exponent per computed tensor; ``per-model``:
            one for all; ``none``: Phi is made from the architecture and these options alone, so
            that it tells nothing about weights or data.
        headroom: bits above the observed range (policies observed and guarded), at least 8.
        clamp_bits: under ``proved``, clamps keep |x| <= 2^clamp_bits where nothing was observed.
        weight_range: with ``none``: every weight satisfies |w| < weight_range; None: 8.
        value_range: with ``none``: the owner promises |x| < value_range for all values inside the
            model; None: ranges are proved, with clamps.
        fraction_bits: with ``none``: of activations and weights; None: the most that fit, up to 16.
        ring: bits of the ring, 32 or 64; None: the analysis chooses, part by part, or 64 where
            ``rings`` names nodes.
        rings: (node name or pattern, ring) of nodes that are computed in another ring; of several
            that match the last one counts. Who builds the artifact sees which ops they are.
        round_bytes: what a link carries in the time of a round, on the network that the program is
            made for; None: for a local one. Numbers do not depend on it.
    """

    policy: str | None = None
    input_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_error: float = 2.0**-7
    disclose: str = "per-tensor"
    headroom: int = 8
    clamp_bits: int = 10
    weight_range: float | None = None
    value_range: float | None = None
    fraction_bits: int | None = None
    ring: int | None = None
    rings: Mapping[str, int] = field(default_factory=dict)
    round_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.round_bytes is not None and not 0 < self.round_bytes <= MAX_ROUND_BYTES:
            raise MpccError.of(
                "E-option-network", f"no link carries {self.round_bytes} bytes in a round"
            )
        for ring in (self.ring or DEFAULT_RING, *self.rings.values()):
            if ring not in RINGS:
                raise MpccError.of(
                    "E-option-ring", f"no ring has {ring!r} bits", "--ring", "use 32 or 64"
                )
        if self.policy is not None and self.policy not in POLICIES:
            raise MpccError.of(
                "E-option-range",
                f"unknown range policy {self.policy!r}",
                "--range",
                f"use one of {', '.join(POLICIES)}",
            )
        self._check_disclosure()
        if self.headroom < 8:
            raise MpccError.of(
                "E-option-headroom", f"{self.headroom} bits of headroom are fewer than 8"
            )
        if not 0 < self.max_error < float("inf"):
            raise MpccError.of(
                "E-option-error", f"{self.max_error!r} is no error to stay below", "--max-error"
            )
        given = tuple(self.input_ranges.items())
        for name, (lo, hi) in given:
            if not (abs(lo) < 2.0**BITS_MAX and abs(hi) < 2.0**BITS_MAX and lo <= hi):
                raise MpccError.of(
                    "E-option-interval",
                    f"[{lo}, {hi}] is no usable range of input {name}",
                    "--input-range",
                )
        # Inputs are binary32: 0.97 as such a number is a little more than 0.97, and must be let in.
        outward = {n: (_outward(lo, -np.inf), _outward(hi, np.inf)) for n, (lo, hi) in given}
        object.__setattr__(self, "input_ranges", outward)

    @property
    def chooses_rings(self) -> bool:
        """Whether the rings are left to the analysis."""
        return self.ring is None and not self.rings

    def _check_disclosure(self) -> None:
        if self.disclose not in DISCLOSE:
            raise MpccError.of(
                "E-option-disclose",
                f"cannot disclose {self.disclose!r}",
                "--disclose",
                f"use one of {', '.join(DISCLOSE)}",
            )
        declared = {
            "--weight-range": self.weight_range,
            "--value-range": self.value_range,
            "--fraction-bits": self.fraction_bits,
        }
        for option, value in declared.items():
            if value is not None and self.disclose != "none":
                raise MpccError.of(
                    "E-option-disclose",
                    "formats are declared only where nothing may be disclosed",
                    option,
                    "add --disclose none, or leave it out",
                )
            # NaN fails the comparison too.
            if value is not None and not 2.0**BITS_MIN <= value <= 2.0**BITS_MAX:
                raise MpccError.of("E-option-interval", f"{value!r} is no usable bound", option)
        if self.fraction_bits is not None and not 4 <= self.fraction_bits <= 28:
            raise MpccError.of(
                "E-option-interval", f"{self.fraction_bits} is not 4 to 28", "--fraction-bits"
            )
        if self.disclose == "none" and self.policy in ("guarded", "observed"):
            raise MpccError.of(
                "E-option-disclose",
                f"ranges that are {self.policy} tell something about the calibration data",
                "--range",
                "promise the range of all values with --value-range, or use --range proved",
            )
        if self.value_range is not None and self.policy == "proved":
            raise MpccError.of(
                "E-option-disclose",
                "ranges are either proved or promised",
                "--value-range",
                "leave out --range or --value-range",
            )

    def public(self) -> dict[str, Any]:
        """What an artifact says of the options, JSON values: enough to make declared formats again.

        Input ranges stand with the inputs.
        """
        found = {key: getattr(self, key) for key in PUBLIC_OPTIONS}
        if self.disclose == "none":
            found["ring"] = None if self.chooses_rings else self.ring or DEFAULT_RING
        if self.round_bytes is not None:
            found["round_bytes"] = self.round_bytes
        return found


PUBLIC_OPTIONS = (
    "disclose",
    "policy",
    "clamp_bits",
    "weight_range",
    "value_range",
    "fraction_bits",
)
"""Options of :class:`FormatOptions` that an artifact records; and ``ring``, where nothing is
disclosed and formats follow from declarations alone."""


def _outward(bound: float, direction: float) -> float:
    """The nearest binary32 number that is not inside ``bound``."""
    rounded = np.float32(bound)
    if (float(rounded) - bound) * direction < 0:
        rounded = np.nextafter(rounded, np.float32(direction))
    return float(rounded)


def _count_bits(n: int) -> int:
    """Length of a positive number in Elias' gamma code."""
    return 2 * n.bit_length() - 1


@dataclass(frozen=True)
class Phi:
    """The formats of one program.

    Op numbers count the ops of the tensor module's @main, which is what Phi belongs to.

    Attributes:
        policy: range policy in force.
        ring: bits of the ring.
        frac: fraction bits of inputs and activations.
        weight_frac: fraction bits of the weights that multiply; a product has both.
        weight_bits: every weight satisfies |w| < 2^weight_bits.
        inputs: per tensor.input without an --input-range: the client enforces |x| <= 2^b.
        ranges: (op, b): the result of this tensor op satisfies |x| < 2^b, before its clamp; one
            for every op whose kind has a range. The same b for all under
            ``FormatOptions(disclose="per-model")``.
        clamps: (op, b): the result of this op is clamped to |x| <= 2^b.
        others: ops that are computed in the other ring; in JSON only where there are any.
        patterns: (op, op of the operand, pattern) of functions that were recognised by the values
            of constants, numbered before they were replaced (:mod:`mpcc.passes.recognise`); in JSON
            only where there are any.
        coarse: lowest bits that relu and maximum leave out of their comparisons; in JSON only if it
            is not 0.
    """

    policy: str
    ring: int
    frac: int
    weight_frac: int
    weight_bits: int
    inputs: tuple[tuple[int, int], ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    clamps: tuple[tuple[int, int], ...] = ()
    others: tuple[int, ...] = ()
    patterns: tuple[tuple[int, int, int], ...] = ()
    coarse: int = 0

    def __post_init__(self) -> None:
        def small(value: Any, lo: int, hi: int) -> bool:
            return type(value) is int and lo <= value <= hi

        good = (
            self.policy in (*POLICIES, DECLARED)
            and type(self.ring) is int
            and self.ring in RINGS
            and small(self.frac, 0, 62)
            and small(self.weight_frac, 0, 62)
            and small(self.weight_bits, BITS_MIN, BITS_MAX)
            and small(self.coarse, 0, MAX_COARSE)
        )
        for table in (self.inputs, self.ranges, self.clamps):
            good = good and all(
                small(op, 0, 1 << _OP_BITS) and small(b, BITS_MIN, BITS_MAX) for op, b in table
            )
            numbers = [op for op, _ in table]
            good = good and numbers == sorted(set(numbers))
        good = good and all(small(op, 0, 1 << _OP_BITS) for op in self.others)
        good = good and all(
            small(source, 0, 1 << _OP_BITS)
            and small(op, source + 1, 1 << _OP_BITS)
            and small(pattern, 0, (1 << _PATTERN_BITS) - 1)
            for op, source, pattern in self.patterns
        )
        ends = [row[0] for row in self.patterns]
        good = good and ends == sorted(set(ends))
        if not good or list(self.others) != sorted(set(self.others)):
            raise MpccError.of("E-phi-format", "the formats are malformed or out of range")

    @property
    def size_bits(self) -> int:
        """Upper bound of what Phi discloses: the bits of a plain encoding given the architecture.

        Formats that were declared (``--disclose none``) disclose nothing whatever their size.
        Which ops have a range or an enforced input is known from the architecture and the options;
        which have a clamp takes one bit for each op that has a range.
        """
        shared = len({b for _, b in self.ranges}) <= 1
        ranges = _RANGE_BITS * (min(1, len(self.ranges)) if shared else len(self.ranges))
        clamps = _RANGE_BITS * len(self.clamps) + (len(self.ranges) if self.clamps else 0)
        others = 0
        if self.others:
            # How many and which, or a bit for each op up to the last one; and which of the two.
            count, last = len(self.others), self.others[-1] + 1
            others = min(_OP_BITS * count + _count_bits(count), last + _count_bits(last)) + 1
        patterns = (2 * _OP_BITS + _PATTERN_BITS) * len(self.patterns)
        patterns += _OP_BITS if patterns else 0
        fixed = _POLICY_BITS + _RING_BITS + 2 * _FRAC_BITS + _RANGE_BITS
        fixed += _COARSE_BITS if self.coarse else 0
        return fixed + _RANGE_BITS * len(self.inputs) + ranges + clamps + others + patterns + 1

    def public(self) -> dict[str, Any]:
        """What an artifact records: the attributes by name."""
        found = asdict(self)
        for key in _OPTIONAL:
            if not found[key]:
                del found[key]
        return found

    def to_json(self) -> str:
        """Compact JSON with sorted keys; :meth:`from_json` is its inverse."""
        return json.dumps(self.public(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Phi:
        """Phi from its JSON text.

        Raises:
            MpccError: ``E-phi-format``.
        """
        bad = MpccError.of("E-phi-format", "the formats are malformed or out of range")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise bad from None
        if not isinstance(data, dict):
            raise bad
        wanted = {f.name for f in fields(cls)}
        if not wanted - set(_OPTIONAL) <= set(data) <= wanted:
            raise bad
        if any(key in data and not data[key] for key in _OPTIONAL):
            raise bad
        for key, length in {"inputs": 2, "ranges": 2, "clamps": 2, "patterns": 3}.items():
            table = data.get(key, [])
            if not isinstance(table, list) or not all(
                isinstance(row, list) and len(row) == length for row in table
            ):
                raise bad
            data[key] = tuple(map(tuple, table))
        others = data.get("others", [])
        if not isinstance(others, list):
            raise bad
        return cls(**{**data, "others": tuple(others)})
