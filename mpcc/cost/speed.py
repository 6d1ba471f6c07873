"""What a unit of work takes on a processor: fitted to traces, kept per processor.

``mpcc bench --calibrate`` runs small programs with traces and keeps the result in the user's cache;
without it, :data:`BUILT_IN` stands for a processor that was measured once.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpcc.cost.work import UNITS, Work
from mpcc.errors import MpccError

__all__ = ["BUILT_IN", "Speeds", "cache_file", "fit", "load", "processor"]

_FORMAT = 1
_ROUNDS = 20_000
_MAX_FILE = 1 << 16


@dataclass(frozen=True)
class Speeds:
    """Seconds per unit of work.

    Attributes:
        processor: on which they were measured.
        seconds: per unit of :data:`mpcc.cost.work.UNITS`; units without an entry take no time.
    """

    processor: str
    seconds: Mapping[str, float]

    def time(self, work: Mapping[str, float]) -> float:
        """Seconds of one core."""
        return sum(self.seconds.get(unit, 0.0) * amount for unit, amount in work.items())

    def to_json(self) -> str:
        """Text of a file; :meth:`from_json` is its inverse."""
        table = {"format": _FORMAT, "processor": self.processor, "seconds": dict(self.seconds)}
        return json.dumps(table, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "") -> Speeds:
        """Speeds from the text of a file.

        Raises:
            MpccError: ``E-cost-speeds``.
        """
        bad = MpccError.of(
            "E-cost-speeds", "not a table of speeds", where, "make it anew: mpcc bench --calibrate"
        )
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise bad from None
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise bad
        name, seconds = data.get("processor"), data.get("seconds")
        if not isinstance(name, str) or not isinstance(seconds, dict) or set(seconds) - set(UNITS):
            raise bad
        if not all(type(s) in (int, float) and 0 <= s < 1 for s in seconds.values()):
            raise bad
        return cls(name, {unit: float(s) for unit, s in seconds.items()})


def processor() -> str:
    """Name of this machine's processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Hardware|cpu)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine() or "unknown"


def cache_file() -> Path:
    """Where this processor's speeds are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = re.sub(r"[^A-Za-z0-9]+", "-", processor()).strip("-").lower()
    return Path(base) / "mpcc" / "speeds" / f"{name or 'unknown'}.json"


def load() -> Speeds:
    """This processor's speeds if they were measured, else the built-in ones.

    Raises:
        MpccError: ``E-cost-speeds``: the file is damaged.
    """
    path = cache_file()
    try:
        if path.stat().st_size > _MAX_FILE:
            raise MpccError.of("E-cost-speeds", "the file is too large", str(path), "remove it")
        return Speeds.from_json(path.read_text(), str(path))
    except OSError:
        return BUILT_IN


def fit(samples: Sequence[tuple[Work, float]]) -> dict[str, float]:
    """Seconds per unit that explain measured times best, none negative.

    Least squares of relative errors, in which a sample counts as the root of its time. Solved by
    coordinate descent on the normal equations: the problem is convex.

    Args:
        samples: (work, seconds).

    Returns:
        Units that occur in the samples.
    """
    units = [unit for unit in UNITS if any(unit in work for work, _ in samples)]
    used = [(work, seconds) for work, seconds in samples if seconds > 0]
    counts = np.asarray([[w.get(unit, 0.0) for unit in units] for w, _ in used], np.float64)
    times = np.asarray([seconds for _, seconds in used], np.float64)
    weights = times**0.25
    matrix = counts.reshape(len(used), len(units)) * (weights / times)[:, None]
    # Columns of like size, so that descent needs few steps.
    scale = np.sqrt((matrix**2).sum(axis=0))
    matrix = matrix / scale
    gram, target = matrix.T @ matrix, matrix.T @ weights
    found = np.zeros(len(units))
    for _ in range(_ROUNDS):
        before = found.copy()
        for j in range(len(units)):
            found[j] = max(0.0, found[j] + (target[j] - gram[j] @ found) / gram[j, j])
        if math.isclose(float(np.abs(found - before).max(initial=0.0)), 0.0, abs_tol=1e-12):
            break
    return dict(zip(units, (found / scale).tolist(), strict=True))


BUILT_IN = Speeds(
    "not measured here, taken as an AMD EPYC with AVX2",
    {
        "op": 1.01e-06,
        "step": 2.24e-07,
        "word": 2.70e-10,
        "plane": 6.44e-11,
        "transposed": 7.93e-11,
        "keystream": 7.26e-11,
        "monomial": 5.41e-11,
        "copied": 2.53e-11,
        "product64": 1.34e-10,
        "product32": 3.91e-11,
        "operand": 7.86e-11,
        "harmonic": 1.02e-09,
        "message": 3.68e-05,
        "wake": 2.72e-06,
        "payload": 1.17e-09,
    },
)
"""For processors that were not measured: what ``mpcc bench --calibrate`` found on one."""
