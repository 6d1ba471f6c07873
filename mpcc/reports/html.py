"""What every page needs: escaping, numbers for people, a policy that lets nothing in."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2

from mpcc.cost import format_bytes, format_seconds
from mpcc.errors import printable

__all__ = ["page"]

_FOLDER = Path(__file__).parent


def _shown(value: Any) -> Any:
    """Text without control characters; what is marked as safe is as it should be."""
    return printable(value) if type(value) is str else value


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page(template: str, style: str, script: str, **context: Any) -> str:
    """A page that loads nothing from elsewhere and runs no script but its own.

    The content security policy names hashes of the style and the script: whatever else a name in
    a model might bring into the page is not run, even if it were not escaped.

    Args:
        template: name of a file of this folder, as ``style`` and ``script``.
        style: a style sheet.
        script: JavaScript; the page's tables do not need it.
        context: for the template.
    """
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = format_bytes
    environment.filters["seconds"] = format_seconds
    parts = {
        "style": "\n" + (_FOLDER / style).read_text(encoding="utf-8"),
        "script": "\n" + (_FOLDER / script).read_text(encoding="utf-8"),
    }
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(parts['style'])}",
            f"script-src {_hash(parts['script'])}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    source = (_FOLDER / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        **parts,
        policy=policy,
        **context,
    )
