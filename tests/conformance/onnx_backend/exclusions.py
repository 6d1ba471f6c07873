"""The committed list of cases that do not pass, and why: ``exclusions.toml``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Exclusion:
    """Why a case does not pass.

    Attributes:
        code: short name of the reason.
        text: the reason.
        signs: the attempt ends with a message that has one of these.
    """

    code: str
    text: str
    signs: tuple[str, ...]

    def explains(self, message: str) -> bool:
        """Whether a failure is of this kind."""
        return any(sign in message for sign in self.signs)


FILE = Path(__file__).with_name("exclusions.toml")


def _load() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text("utf-8"))


def minimum() -> int:
    """So many cases pass at least; the number may only grow."""
    return int(_load()["minimum"])


def groups() -> list[tuple[Exclusion, list[str]]]:
    """The reasons, and the cases of each."""
    return [
        (Exclusion(g["code"], g["text"], tuple(g["signs"])), list(g["cases"]))
        for g in _load()["group"]
    ]


@cache
def exclusions() -> dict[str, Exclusion]:
    """All excluded cases by name.

    Raises:
        ValueError: a case is listed twice.
    """
    found: dict[str, Exclusion] = {}
    for why, names in groups():
        for name in names:
            if name in found:
                raise ValueError(f"{name} is listed twice")
            found[name] = why
    return found
