"""What changed in cost, formats and accuracy from one program to another (``mpcc diff``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpcc.cost.predict import LayerCost
from mpcc.cost.report import Report, format_bytes, format_seconds
from mpcc.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Difference", "Figure", "Layer", "compare"]


@dataclass(frozen=True)
class Figure:
    """One figure of both programs.

    Attributes:
        name: what it is.
        unit: ``bytes``, ``seconds`` or empty for plain numbers.
        before: of the first program; None where it has none.
        after: of the second.
    """

    name: str
    unit: str
    before: float | None
    after: float | None

    @property
    def ratio(self) -> float | None:
        """After over before; None without both, or if the first is 0."""
        return self.after / self.before if self.before and self.after is not None else None

    def texts(self) -> tuple[str, str, str]:
        """Both, and the change."""
        same = self.before == self.after
        change = "" if self.ratio is None or same else f"{100 * (self.ratio - 1):+.1f} %"
        return self._text(self.before), self._text(self.after), "=" if same else change

    def _text(self, value: float | None) -> str:
        if value is None:
            return ""
        if self.unit == "bytes":
            return format_bytes(value)
        return format_seconds(value) if self.unit == "seconds" else f"{value:.4g}"


@dataclass(frozen=True)
class Layer:
    """A layer of both programs, or of one: the other's figures are 0 then.

    Attributes:
        names: in the first and in the second program; empty where it has none.
        sent: online bytes.
        rounds: longest chain of its own messages.
    """

    names: tuple[str, str]
    sent: tuple[int, int]
    rounds: tuple[int, int]

    @property
    def name(self) -> str:
        """One name, or both."""
        before, after = self.names
        if before == after or not (before and after):
            return before or after
        return f"{before} → {after}"

    @property
    def changed(self) -> bool:
        """Whether a figure differs."""
        return self.sent[0] != self.sent[1] or self.rounds[0] != self.rounds[1]


@dataclass(frozen=True)
class Difference:
    """All that differs between two programs.

    Attributes:
        figures: of the whole programs, those of accuracy where the owner's reports were given.
        formats: (name, before, after) of number formats and policies that differ.
        layers: in the order of the second program, then those that only the first has.
    """

    figures: tuple[Figure, ...]
    formats: tuple[tuple[str, str, str], ...]
    layers: tuple[Layer, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": 1,
            "figures": {
                f.name: {"unit": f.unit, "before": f.before, "after": f.after} for f in self.figures
            },
            "formats": {name: [before, after] for name, before, after in self.formats},
            "layers": [
                {"names": list(x.names), "bytes": list(x.sent), "rounds": list(x.rounds)}
                for x in self.layers
            ],
        }

    def tables(self) -> Iterator[Table]:
        """Tables for the terminal: figures, formats, and the layers that changed."""
        from rich.table import Table

        figures = Table("", "before", "after", "change")
        for figure in self.figures:
            figures.add_row(figure.name, *figure.texts())
        yield figures
        if self.formats:
            formats = Table("format", "before", "after")
            for row in self.formats:
                formats.add_row(*map(printable, row))
            yield formats
        changed = [layer for layer in self.layers if layer.changed]
        layers = Table("layer", "sent before", "after", "change", "rounds before", "after")
        layers.caption = f"{len(self.layers) - len(changed)} layers cost the same"
        for layer in sorted(changed, key=lambda x: -abs(x.sent[1] - x.sent[0])):
            sent = Figure("", "bytes", *layer.sent).texts()
            layers.add_row(printable(layer.name), *sent, *map(str, layer.rounds))
        if changed:
            yield layers


def _figures(
    before: Report, after: Report, private: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Iterator[Figure]:
    def both(name: str, unit: str, of: Any) -> Figure:
        return Figure(name, unit, of(before), of(after))

    yield both("rounds", "", lambda r: r.cost.online.rounds)
    yield both("bytes per run", "bytes", lambda r: r.cost.online.total_bytes)
    yield both("bytes of setup", "bytes", lambda r: r.cost.setup.total_bytes)
    yield both("messages", "", lambda r: r.cost.online.messages)
    name = after.profile.name
    yield both(f"network time ({name})", "seconds", lambda r: r.cost.seconds(r.profile).online)
    if before.times and after.times:
        yield both(f"time ({name})", "seconds", lambda r: r.times[name].seconds)
    errors = [max(p.get("measured_error", {}).values(), default=None) for p in private]
    if any(e is not None for e in errors):
        yield Figure("measured error", "", *errors)


def _formats(before: Report, after: Report) -> Iterator[tuple[str, str, str]]:
    def flat(report: Report) -> dict[str, str]:
        phi = report.manifest.get("phi", {})
        found = {k: str(v) for k, v in phi.items() if not isinstance(v, (list, tuple))}
        found |= {
            f"number of {k}": str(len(v)) for k, v in phi.items() if isinstance(v, (list, tuple))
        }
        return {"protocol": str(report.manifest.get("protocol", "")), **found}

    one, two = flat(before), flat(after)
    for key in {**one, **two}:
        if one.get(key) != two.get(key):
            yield key, one.get(key, ""), two.get(key, "")


def _kind(layer: LayerCost) -> str:
    """``conv`` of ``conv_12``: numbers shift where an op comes or goes."""
    return layer.name.rstrip("0123456789").rstrip("_")


def _layers(before: Report, after: Report) -> Iterator[Layer]:
    one, two = before.cost.layers, after.cost.layers
    # By kind, in order: names are numbered anew where the programs differ.
    matcher = difflib.SequenceMatcher(None, [*map(_kind, one)], [*map(_kind, two)], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            for a, b in zip(one[i:j], two[k:m], strict=True):
                yield Layer(
                    (a.name, b.name),
                    (a.online.total_bytes, b.online.total_bytes),
                    (a.online.rounds, b.online.rounds),
                )
            continue
        for a in one[i:j]:
            yield Layer((a.name, ""), (a.online.total_bytes, 0), (a.online.rounds, 0))
        for b in two[k:m]:
            yield Layer(("", b.name), (0, b.online.total_bytes), (0, b.online.rounds))


def compare(
    before: Report,
    after: Report,
    private: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> Difference:
    """Compare two programs under the network of their reports.

    Args:
        before: the first program's report, with its manifest.
        after: the second's.
        private: the owner's private reports of both, empty where there is none.
    """
    return Difference(
        tuple(_figures(before, after, private)),
        tuple(_formats(before, after)),
        tuple(_layers(before, after)),
    )
