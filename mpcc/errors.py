"""Errors that users see: a code, what is wrong, where, and what to do about it.

This module imports nothing of mpcc. User errors never carry secret values: callers
put names, shapes, formats and positions into the text, never tensor contents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Diagnostic", "MpccError", "collect", "printable"]


def printable(text: str) -> str:
    """The text with control characters escaped, line ends and tabs apart.

    For whatever comes from a file: a terminal obeys control characters.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


@dataclass(frozen=True)
class Diagnostic:
    """One problem.

    Attributes:
        code: stable identifier such as ``E-import-unsupported``.
        what: what is wrong, one sentence.
        where: the node, file, party or position; empty if it concerns the whole.
        fix: what the user can do; empty if nothing is known.
    """

    code: str
    what: str
    where: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        # Names from models and artifacts stand in these texts; a terminal must not obey them.
        for name in ("what", "where", "fix"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        text = f"{self.code}: {self.what}"
        if self.where:
            text += f"\n  where: {self.where}"
        if self.fix:
            text += f"\n  fix:   {self.fix}"
        return text


class MpccError(Exception):
    """A problem that the user can understand and act on, or several of them at once."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        if not diagnostics:
            raise ValueError("MpccError needs at least one diagnostic")
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics
        super().__init__("\n".join(str(d) for d in diagnostics))

    @classmethod
    def of(cls, code: str, what: str, where: str = "", fix: str = "") -> MpccError:
        """An error with a single diagnostic."""
        return cls(Diagnostic(code, what, where, fix))

    @property
    def code(self) -> str:
        """The code of the first diagnostic."""
        return self.diagnostics[0].code


def collect(diagnostics: Iterable[Diagnostic]) -> None:
    """Raise one :class:`MpccError` for all diagnostics, or return if there is none."""
    found = tuple(diagnostics)
    if found:
        raise MpccError(*found)
