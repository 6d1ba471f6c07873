"""Secure-level calls of functions (:mod:`mpcc.ir.calls`)."""

from __future__ import annotations

from mpcc.ir.calls import CallOperation
from mpcc.ir.ops.secure.base import SecureOperation

__all__ = ["Call"]


class Call(CallOperation, SecureOperation):
    """The results of a function of the module, for these arguments."""

    name = "secure.call"


OPERATIONS = (Call,)
