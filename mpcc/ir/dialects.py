"""All dialects by level, for tools that take a module of any level."""

from __future__ import annotations

from collections.abc import Mapping

from mpcc.ir.define import Dialect
from mpcc.ir.ops import party, secure, tensor

__all__ = ["DIALECTS"]

DIALECTS: Mapping[str, Dialect] = {
    d.level: d for d in (tensor.DIALECT, secure.DIALECT, party.DIALECT)
}
"""Level -> dialect, in the order of lowering."""
