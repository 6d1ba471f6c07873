"""Secure-level sources and the reveal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.ops.secure.base import (
    RING_ATTR,
    SHAPE_ATTR,
    WIDTH_ATTR,
    SecureOperation,
    secure,
    secure_format,
)
from mpcc.ir.types import VISIBILITIES, SecureType, Type

__all__ = ["Input", "Reveal", "Weight"]


def _declared(cls: type[Operation], attrs: Attributes) -> SecureType:
    shape, ring, frac = attrs["shape"], attrs["ring"], attrs["frac"]
    return secure_format(cls, shape, ring, frac, attrs["width"], attrs["owner"])


class Input(SecureOperation):
    """An input of a run: its owner encodes round(x * 2^frac), half to even, and shares it.

    The owner's client refuses values outside [lo, hi] or not finite. With ``rows`` it has whole
    numbers from -rows to rows - 1, and shares one-hot rows of them.
    """

    name = "secure.input"
    attributes = {
        "name": Attr("str", "input name"),
        "owner": Attr("str", "place that provides it: client, model or public"),
        "shape": SHAPE_ATTR,
        "ring": RING_ATTR,
        "frac": Attr("int", "fraction bits"),
        "width": WIDTH_ATTR,
        "lo": Attr("float", "smallest value accepted"),
        "hi": Attr("float", "largest value accepted"),
        "rows": Attr("int", "places of one-hot rows along the last axis; 0: any numbers", 0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not attrs["lo"] <= attrs["hi"]:
            raise fail(cls, f"empty range [{attrs['lo']}, {attrs['hi']}]")
        if attrs["rows"] and attrs["rows"] != (0, *attrs["shape"])[-1]:
            raise fail(cls, f"one-hot rows of {attrs['rows']} places in shape {attrs['shape']}")
        declared = _declared(cls, attrs)
        bound = max(abs(attrs["lo"]), abs(attrs["hi"]))
        with np.errstate(over="ignore"):  # an infinity does not fit either
            scaled = np.rint(np.ldexp(bound, attrs["frac"]))
        if not scaled < 2.0 ** attrs["width"]:
            raise fail(cls, f"values up to {bound} do not fit the width {attrs['width']}")
        return (declared,)


class Weight(SecureOperation):
    """A fixed-point constant of its owner's file, the same over a session."""

    name = "secure.weight"
    attributes = {
        "name": Attr("str", "name in the weights file"),
        "owner": Attr("str", "model, or public if every party may know it"),
        "shape": SHAPE_ATTR,
        "ring": RING_ATTR,
        "frac": Attr("int", "fraction bits"),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (_declared(cls, attrs),)


class Reveal(SecureOperation):
    """Opens x to its output's owner, who decodes raw / 2^frac; nobody else learns anything."""

    name = "secure.reveal"
    operands = ("x",)
    attributes = {
        "name": Attr("str", "output name"),
        "owner": Attr("str", "place that learns it: client, model or public"),
    }
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        secure(cls, types[0])
        if attrs["owner"] not in VISIBILITIES or attrs["owner"] == "secret":
            raise fail(cls, f"unknown owner {attrs['owner']!r}")
        return ()


OPERATIONS = (Input, Weight, Reveal)
"""In the order of the dialect."""
