"""Where the command line writes, and the spinner that shows its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mpcc.errors import printable

__all__ = ["err", "out", "status"]


class PlainConsole(Console):
    """Names of a model and paths may look like markup: they are shown as they are.

    Control characters in them, which a terminal would obey, are shown as escapes.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """All that is printed comes through here, the cells of tables too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


out = PlainConsole()
err = PlainConsole(stderr=True)


@contextmanager
def status(text: str) -> Iterator[Any]:
    """A spinner with the current step, on a terminal only."""
    with err.status(text) as spinner:
        yield spinner
