"""Parts of the documentation that commands write: what stands between two marks of a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["DOCS", "README", "PageError", "rewrite"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
README = DOCS.parent / "README.md"


class PageError(ValueError):
    """A page has no place for what should be written there."""


def rewrite(page: Path, part: str, text: str | Callable[[str], str]) -> None:
    """Write one part of a page anew.

    Args:
        page: Markdown, with the lines ``<!-- PART: begin -->`` and ``<!-- PART: end -->``.
        part: name of the part.
        text: what shall stand there, or what makes it of what stands there.

    Raises:
        PageError: the marks are missing.
    """
    start, end = (f"<!-- {part}: {mark} -->" for mark in ("begin", "end"))
    before, found, rest = page.read_text("utf-8").partition(start)
    old, closed, after = rest.partition(end)
    if not found or not closed:
        raise PageError(f"{page.name} has no place between {start} and {end}")
    new = text(old) if callable(text) else text
    page.write_text(f"{before}{start}\n{new.strip()}\n{end}{after}", "utf-8")
