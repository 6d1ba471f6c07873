"""What a report takes from the model owner's private report; with it the page is private too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mpcc.errors import MpccError

__all__ = ["Owner", "of_this_version"]


@contextmanager
def of_this_version() -> Iterator[None]:
    """Read a private report inside, and take it for one that this version wrote.

    Raises:
        MpccError: ``E-private``: something is missing or of another kind, because somebody edited
            the file or another version wrote it.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise MpccError.of(
            "E-private",
            f"not the report of this version's `mpcc compile` ({type(error).__name__})",
            "M.private.json",
            "compile the model again",
        ) from None


@dataclass(frozen=True)
class Owner:
    """Parts of ``M.private.json`` by layer of the program.

    Attributes:
        nodes: the node of the source model that a layer came from; empty names are left out.
        errors: a layer's share of the output's error, 0 to 1.
        reasons: per layer, (what was chosen, why), of number formats and rings.
        measured: error of each output, as compared with the float model.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Owner:
        """Of a private report as :func:`mpcc.artifact.load_private` reads it.

        Raises:
            MpccError: ``E-private``: it is not what `mpcc compile` of this version writes.
        """
        with of_this_version():
            return cls._of(report)

    @classmethod
    def _of(cls, report: Mapping[str, Any]) -> Owner:
        nodes: dict[str, str] = {}
        errors: dict[str, float] = {}
        reasons: dict[str, list[tuple[str, str]]] = {}
        for row in report["layers"]:
            layer = str(row["layer"])
            if row["node"]:
                nodes.setdefault(layer, str(row["node"]))
            share = row["error"]["share"]
            if share is not None:
                errors[layer] = errors.get(layer, 0.0) + float(share)
            found = row["range"]
            if found["width"] is not None:
                chosen = f"values in {int(found['width'])} bits"
                reasons.setdefault(layer, []).append((chosen, str(found["why"])))
        for part in report.get("rings", {}).get("parts", ()):
            for layer in part["layers"]:
                chosen = f"ring of {int(part['ring'])} bits"
                reasons.setdefault(str(layer), []).append((chosen, str(part["why"])))
        measured = {str(k): float(v) for k, v in report["measured_error"].items()}
        return cls(nodes, errors, {k: tuple(v) for k, v in reasons.items()}, measured)
