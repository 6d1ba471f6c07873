"""What benchmarks write down: rows of systems on cases, as JSON, and reading them again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["OURS", "ResultError", "Results", "Row"]

FORMAT = 1

OURS = "mpcc"
"""The system that is compared with the others."""


class ResultError(ValueError):
    """A results file cannot be read; the text says which and why."""


@dataclass(frozen=True)
class Row:
    """One system on one case; what a system does not tell is None.

    Attributes:
        system: ``mpcc``, ``spu``, ``crypten`` or ``tf-encrypted``.
        case: a key of :data:`benchmarks.cases.CASES`.
        link: ``none``, ``lan`` or ``wan``.
        setting: variant of the case: ``""``, or such as ``bits=31`` or ``ring=32``.
        online_seconds: one per run, from inputs and weights shared to the output opened.
        first_seconds: the first run of a session, which the others do not contain.
        start_seconds: processes, handshakes, sharing and packing the weights, until a run can be.
        setup_seconds: of these, sharing the weights.
        compile_seconds: from the model's bytes to the program.
        links: payload bytes of a run per directed link between parties, such as ``0->1``.
        total_bytes: payload over all links of a run, owners' included.
        rounds: longest chain of dependent messages.
        peak_bytes: resident memory of the largest party.
        deviation: largest absolute difference from the model in floating point.
        magnitude: largest absolute output of that.
        widths: smallest and largest k of the values |x| < 2^k that are compared.
        bounds: seconds: ``multiplying``, ``sending``.
        cpu_seconds: processor seconds of a run, all parties together, polling included.
        notes: plain sentences.
    """

    system: str
    case: str
    link: str
    online_seconds: list[float]
    setting: str = ""
    first_seconds: float | None = None
    start_seconds: float | None = None
    setup_seconds: float | None = None
    compile_seconds: float | None = None
    links: dict[str, int] = field(default_factory=dict)
    total_bytes: int | None = None
    rounds: int | None = None
    peak_bytes: int | None = None
    deviation: float | None = None
    magnitude: float | None = None
    widths: list[int] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median online seconds."""
        return statistics.median(self.online_seconds)

    @property
    def bound(self) -> float | None:
        """The larger of the two bounds."""
        return max(self.bounds.values()) if self.bounds else None

    @property
    def imbalance(self) -> float | None:
        """How far the busiest link is above the mean of all six, as a fraction."""
        if not self.links:
            return None
        return max(self.links.values()) * 6 / sum(self.links.values()) - 1

    def joined(self, other: Row) -> Row:
        """The same measurement with the runs of another session of it."""
        values = {f.name: getattr(self, f.name) for f in fields(Row)}
        values["online_seconds"] = [*self.online_seconds, *other.online_seconds]
        return Row(**values)


@dataclass(frozen=True)
class Results:
    """Rows that were measured on one machine in one go.

    Attributes:
        environment: facts, see :func:`benchmarks.environment.facts`.
        peaks: of the machine, see :class:`benchmarks.peaks.Peaks`; empty where not measured.
        rows: in the order of measuring.
        failures: ``system case: why`` of what was tried without a result.
    """

    environment: Mapping[str, Any]
    peaks: Mapping[str, float]
    rows: Sequence[Row]
    failures: Sequence[str] = ()

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        data = {
            "format": FORMAT,
            "environment": dict(self.environment),
            "peaks": dict(self.peaks),
            "rows": [asdict(row) for row in self.rows],
            "failures": list(self.failures),
        }
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read one JSON file.

        Raises:
            ResultError: it is none of ours, or of another format.
        """
        try:
            data = json.loads(path.read_text())
            if data["format"] != FORMAT:
                raise ResultError(f"{path} has format {data['format']}, not {FORMAT}")
            rows = [Row(**row) for row in data["rows"]]
            return cls(data["environment"], data["peaks"], rows, data["failures"])
        except OSError as error:
            raise ResultError(f"{path}: {error.strerror}") from None
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ResultError(f"{path} is no file of benchmark results ({error})") from None

    @classmethod
    def joined(cls, parts: Iterable[Results]) -> Results:
        """Several as one: a later row replaces an earlier one of the same measurement.

        The environment and the rates are the first part's that has them.
        """
        found = list(parts)
        rows = {(r.system, r.case, r.link, r.setting): r for part in found for r in part.rows}
        return cls(
            next((p.environment for p in found if p.environment), {}),
            next((p.peaks for p in found if p.peaks), {}),
            list(rows.values()),
            [f for p in found for f in p.failures],
        )
