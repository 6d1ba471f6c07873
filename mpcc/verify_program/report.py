"""The result of a verification: per observer what it receives and learns, and all problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mpcc.errors import Diagnostic

__all__ = ["Observer", "Report"]


@dataclass(frozen=True)
class Observer:
    """A place, or places that put together what they know.

    Attributes:
        places: their names, joined by ``+``.
        messages: number of messages that they receive from others.
        setup_bytes: payload of those of the setup.
        run_bytes: payload of those of a run.
        masked: parts of messages that were proved uniform.
        opened: outputs that they learn.
        learns: what they learn, in a sentence.
        problems: why they may learn more.
    """

    places: str
    messages: int
    setup_bytes: int
    run_bytes: int
    masked: int
    opened: tuple[str, ...]
    learns: str
    problems: tuple[Diagnostic, ...]


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        program_sha256: the program.
        protocol: its protocol.
        threat_model: whom the protocol protects against.
        policy: where the policy comes from.
        ops: local ops and messages looked at.
        observers: see :class:`Observer`.
        problems: problems of the program as a whole.
        disclosed: what everybody who has the artifact knows.
        trusted: what the verdict rests on.
        seconds: wall time.
    """

    program_sha256: str
    protocol: str
    threat_model: str
    policy: str
    ops: int
    observers: tuple[Observer, ...]
    problems: tuple[Diagnostic, ...]
    disclosed: Mapping[str, Any]
    trusted: tuple[str, ...]
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether nothing was found."""
        return not self.all_problems

    @property
    def all_problems(self) -> tuple[Diagnostic, ...]:
        """Of the program, then of each observer; the same one only once."""
        found = [*self.problems, *(p for o in self.observers for p in o.problems)]
        return tuple(dict.fromkeys(found))

    def json(self) -> str:
        """All of it as JSON text."""
        table = {"accepted": self.accepted, **asdict(self)}
        return json.dumps(table, indent=1, sort_keys=True) + "\n"

    def render(self) -> RenderableType:
        """For people: a table of observers, what is disclosed, what stays trusted, problems."""
        table = Table("who", "messages", "bytes setup + run", "learns")
        for o in self.observers:
            size = f"{o.setup_bytes} + {o.run_bytes}"
            table.add_row(o.places, str(o.messages), size, Text(o.learns))
        lines = [
            Text(f"protocol {self.protocol}: {self.threat_model}"),
            Text(f"policy: {self.policy}"),
        ]
        lines += [Text(f"disclosed: {key}: {_words(v)}") for key, v in self.disclosed.items()]
        lines += [Text(f"trusted: {text}") for text in self.trusted]
        lines += [Text(str(p), "red") for p in self.all_problems]
        verdict = (
            Text(f"accepted: {self.ops} ops checked in {self.seconds:.2f} s", "green")
            if self.accepted
            else Text(f"refused: {len(self.all_problems)} problems", "red")
        )
        return Group(table, *lines, verdict)


def _words(value: Any) -> str:
    """A value of :attr:`Report.disclosed` for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(v)}" for key, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, int) for v in value):
            return "×".join(map(str, value))
        return ", ".join(map(_words, value)) or "none"
    return str(value)
