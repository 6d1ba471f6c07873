"""Protocols: how secure ops become local ops, draws and messages. The list is explicit."""

from __future__ import annotations

from collections.abc import Mapping

from mpcc.errors import MpccError
from mpcc.protocols.base import Protocol
from mpcc.protocols.lowering import Lowered, lower_program
from mpcc.protocols.ref import Ref
from mpcc.protocols.rep3 import Rep3

__all__ = ["PROTOCOLS", "Lowered", "Protocol", "Ref", "Rep3", "lower_program", "protocol_named"]

PROTOCOLS: Mapping[str, type[Protocol]] = {p.name: p for p in (Rep3, Ref)}
"""All protocols by name."""


def protocol_named(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        MpccError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise MpccError.of(
            "E-protocol-name", f"no protocol named {name!r}", fix=f"one of {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]()
