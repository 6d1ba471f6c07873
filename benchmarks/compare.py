"""Ours against the others: which figure of a peer counts, by how much it is slower, and the aims.

A peer's figure is, if possible, measured in the same session. What does not install from the
package index, or was not run, stands as published (``published.json``), times the factor by which
SPU was slower or faster in this session than it was there: the median over the cases that both
have. Of a model as written and the same rewritten by hand for the peer, the faster counts.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.results import OURS, Results, Row

__all__ = ["AIMS", "PUBLISHED", "Aim", "Figure", "Verdict", "figures", "ours", "scale", "verdicts"]

TITLES = {
    "spu": "SPU",
    "mp-spdz": "MP-SPDZ",
    "tf-encrypted": "tf-encrypted",
    "crypten": "CrypTen",
}
"""Peers, in the order of tables."""


@cache
def _published() -> Mapping[str, Mapping[str, float]]:
    data = json.loads((Path(__file__).parent / "published.json").read_text())
    data.pop("source")
    return dict(data)


PUBLISHED = _published()
"""Seconds by system (``NAME`` or ``NAME tuned``) and case."""


@dataclass(frozen=True)
class Figure:
    """A peer's time on a case.

    Attributes:
        seconds: the time.
        measured: in this session; else published and scaled.
        tuned: of a model rewritten by hand for the peer.
    """

    seconds: float
    measured: bool
    tuned: bool = False

    def text(self) -> str:
        """For a table."""
        return f"{seconds_text(self.seconds)}{'' if self.measured else '*'}{'†' * self.tuned}"


def seconds_text(seconds: float) -> str:
    """Seconds with three digits, in the unit that fits.

    >>> seconds_text(0.00214), seconds_text(0.1571), seconds_text(12.3)
    ('2.14 ms', '157 ms', '12.3 s')
    """
    if seconds < 1:
        return f"{float(f'{seconds * 1e3:.3g}'):g} ms"
    return f"{float(f'{seconds:.3g}'):g} s"


def ours(results: Results, case: str, link: str = "none", setting: str = "") -> Row | None:
    """Our row of a measurement; None if it was not made."""
    for row in results.rows:
        if (row.system, row.case, row.link, row.setting) == (OURS, case, link, setting):
            return row
    return None


def scale(results: Results) -> float | None:
    """How many times slower SPU was here than where the published figures come from."""
    ratios = []
    for row in results.rows:
        if row.system == "spu":
            name = "spu tuned" if row.setting == "tuned" else "spu"
            known = PUBLISHED[name].get(row.case)
            if known is not None:
                ratios.append(row.median / known)
    return statistics.median(ratios) if ratios else None


def figures(results: Results, case: str) -> dict[str, Figure]:
    """The figure of every peer that has one for a case."""
    factor = scale(results)
    found = {}
    for peer in TITLES:
        options = [
            Figure(row.median, True, row.setting == "tuned")
            for row in results.rows
            if (row.system, row.case, row.link) == (peer, case, "none")
        ]
        if not options and factor is not None:
            options = [
                Figure(PUBLISHED[name][case] * factor, False, name != peer)
                for name in (peer, f"{peer} tuned")
                if case in PUBLISHED.get(name, {})
            ]
        if options:
            found[peer] = min(options, key=lambda f: f.seconds)
    return found


# --- aims ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aim:
    """Something that a case is meant to reach.

    Attributes:
        case: the case, link ``none``.
        what: ``spu`` and so on: times faster than that peer; ``bound``: times the larger bound at
            most; ``seconds``, ``start``, ``megabytes``, ``gigabytes``: at most; ``imbalance``:
            busiest link over the mean at most; ``error``: times SPU's largest error at most.
        value: the number.
    """

    case: str
    what: str
    value: float


def _aims() -> list[Aim]:
    aims = []
    for case in ("B128", "C128", "relu1e6", "maxpool1e6", "maxpool112", "resnet18"):
        aims += [Aim(case, "spu", 10), Aim(case, "tf-encrypted", 10), Aim(case, "mp-spdz", 4)]
    aims += [Aim("matmul1024", "spu", 8), Aim("matmul1024", "crypten", 5)]
    for case in ("softmax", "gelu", "exp", "reciprocal", "sigmoid"):
        aims += [Aim(case, "spu", 5), Aim(case, "error", 1)]
    aims += [Aim("bert", "spu", 10), Aim("bert", "error", 1)]
    aims += [Aim("A1", "mp-spdz", 1), Aim("B1", "mp-spdz", 4), Aim("C1", "mp-spdz", 4)]
    aims += [
        Aim("resnet50", "seconds", 4.0),
        Aim("resnet50", "megabytes", 330.0),
        Aim("resnet50", "gigabytes", 1.5),
        Aim("resnet50", "start", 5.0),
    ]
    aims += [Aim(case, "bound", 2.5) for case in ("A128", "B128", "C128")]
    for case in ("A128", "B128", "C128", "resnet18", "vgg16", "resnet50"):
        aims.append(Aim(case, "imbalance", 0.10))
    return aims


AIMS = tuple(_aims())


@dataclass(frozen=True)
class Verdict:
    """An aim and what was found.

    Attributes:
        case: the case.
        aim: in words.
        found: in words.
        met: whether it is.
    """

    case: str
    aim: str
    found: str
    met: bool


def _limits(row: Row) -> dict[str, tuple[str, float | None, str]]:
    """Per kind of limit: what is limited, its value, and the unit."""
    links = row.links
    sent = [sum(n for link, n in links.items() if link[0] == p) for p in "012"] if links else None
    return {
        "seconds": ("time", row.median, "s"),
        "start": ("until the first run can be", row.start_seconds, "s"),
        "megabytes": ("sent per party", max(sent) / 1e6 if sent else None, "MB"),
        "gigabytes": ("memory per party", row.peak_bytes / 1e9 if row.peak_bytes else None, "GB"),
    }


def _verdict(aim: Aim, results: Results) -> Verdict | None:
    row = ours(results, aim.case)
    if row is None:
        return None
    if aim.what in TITLES:
        figure = figures(results, aim.case).get(aim.what)
        if figure is None:
            return None
        times = figure.seconds / row.median
        found = f"{times:.3g} times ({seconds_text(row.median)} against {figure.text()})"
        wanted = f"{aim.value:g} times faster than {TITLES[aim.what]}"
        if aim.value == 1:
            wanted = f"as fast as {TITLES[aim.what]}"
        return Verdict(aim.case, wanted, found, times >= aim.value)
    if aim.what == "bound":
        if row.bound is None:
            return None
        times = row.median / row.bound
        wanted = f"at most {aim.value:g} times the larger bound"
        return Verdict(aim.case, wanted, f"{times:.3g} times", times <= aim.value)
    if aim.what == "imbalance":
        if row.imbalance is None:
            return None
        wanted = f"busiest link at most {aim.value:.0%} above the mean"
        return Verdict(aim.case, wanted, f"{row.imbalance:.1%}", row.imbalance <= aim.value)
    if aim.what == "error":
        errors = [
            other.deviation
            for other in results.rows
            if (other.system, other.case) == ("spu", aim.case) and other.deviation is not None
        ]
        if not errors or row.deviation is None:
            return None
        found = f"{row.deviation:.1e} against {min(errors):.1e}"
        wanted = "largest error at most SPU's"
        return Verdict(aim.case, wanted, found, row.deviation <= aim.value * min(errors))
    what, value, unit = _limits(row)[aim.what]
    if value is None:
        return None
    wanted = f"{what} at most {aim.value:g} {unit}"
    return Verdict(aim.case, wanted, f"{value:.3g} {unit}", value <= aim.value)


def verdicts(results: Results) -> list[Verdict]:
    """Every aim that the results say something about."""
    return [v for v in (_verdict(aim, results) for aim in AIMS) if v is not None]
