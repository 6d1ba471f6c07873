"""Who may learn what, said by whoever verifies: outputs' owners, public values, coalitions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.core import Module
from mpcc.ir.types import OWNER_PLACES, PLACES

__all__ = ["Policy", "declared_policy", "load_policy", "place_name"]

_MAX_FILE = 1 << 20
_KEYS = ("coalitions", "inputs", "logits", "outputs", "public")


def place_name(places: frozenset[str]) -> str:
    """Places in their order, joined by ``+``.

    >>> place_name(frozenset({"client", "P0"}))
    'P0+client'
    """
    return "+".join(p for p in PLACES if p in places)


@dataclass(frozen=True)
class Policy:
    """What is allowed.

    Attributes:
        source: where it comes from, for the report.
        outputs: owner of every output; nobody else may learn it.
        inputs: owner of every input.
        public: inputs and weights that everybody may know.
        coalitions: sets of places that put what they know together, beside each place alone.
        logits: outputs whose owners may learn the scores before a last softmax or sigmoid.
    """

    source: str
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]
    public: frozenset[str] = frozenset()
    coalitions: tuple[frozenset[str], ...] = field(default=())
    logits: frozenset[str] = frozenset()

    def observers(self) -> list[frozenset[str]]:
        """Every place alone, then the coalitions."""
        alone = [frozenset({p}) for p in PLACES]
        return alone + [c for c in self.coalitions if c not in alone]


def _owner(name: str) -> str:
    return name if name in OWNER_PLACES else "client"


def declared_policy(secure: Module) -> Policy:
    """What the secure program itself declares: for a report when the user gives no policy."""
    inputs, outputs, public = {}, {}, set()
    for op in secure.main.ops:
        if op.name in ("secure.input", "secure.weight") and op.attrs["owner"] == "public":
            public.add(op.attrs["name"])
        if op.name == "secure.input":
            inputs[op.attrs["name"]] = _owner(op.attrs["owner"])
        elif op.name == "secure.reveal":
            outputs[op.attrs["name"]] = _owner(op.attrs["owner"])
    return Policy("as the artifact declares", outputs, inputs, frozenset(public))


def _toml(path: Path) -> dict[str, Any]:
    where = str(path)
    try:
        data = path.read_bytes()[: _MAX_FILE + 1]
    except OSError as error:
        raise MpccError.of("E-policy-file", f"cannot read: {error.strerror}", where) from None
    if len(data) > _MAX_FILE:
        raise MpccError.of("E-policy-file", f"more than {_MAX_FILE} bytes", where)
    parser: Any
    try:
        parser = importlib.import_module("tomllib")
    except ModuleNotFoundError:
        try:
            parser = importlib.import_module("tomli")
        except ModuleNotFoundError:
            raise MpccError.of(
                "E-policy-file",
                "this Python reads no TOML",
                where,
                "install the package tomli, or use Python 3.11",
            ) from None
    try:
        found: dict[str, Any] = parser.loads(data.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise MpccError.of("E-policy-file", f"not TOML: {error}", where) from None
    return found


def load_policy(path: Path, declared: Policy) -> Policy:
    """Read a policy file.

    For example::

        public = ["bias"]                  # inputs and weights for everybody; default none
        coalitions = [["P0", "client"]]    # checked beside each place alone; default none
        logits = ["y"]                     # outputs whose scores may be opened; default none

        [outputs]                          # required: all outputs
        logits = "client"

        [inputs]                           # default: as the artifact declares
        image = "client"

    Args:
        path: the file.
        declared: what the artifact declares, for inputs that the file does not name.

    Raises:
        MpccError: ``E-policy...``, all problems at once.
    """
    data, where = _toml(path), str(path)
    problems: list[Diagnostic] = []

    def bad(what: str, fix: str = "") -> None:
        problems.append(Diagnostic("E-policy", what, where, fix))

    for key in sorted(set(data) - set(_KEYS)):
        bad(f"unknown key {key!r}", f"known: {', '.join(_KEYS)}")

    def owners(key: str) -> dict[str, str]:
        table = data.get(key, {})
        good = isinstance(table, dict) and all(v in OWNER_PLACES for v in table.values())
        if not good:
            bad(f"[{key}] gives each name an owner", f"one of {', '.join(OWNER_PLACES)}")
            return {}
        return dict(table)

    def names(key: str, value: Any, known: tuple[str, ...] | None) -> frozenset[str]:
        good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if not good or (known is not None and not set(value) <= set(known)):
            bad(f"{key} is a list of names", f"known: {', '.join(known)}" if known else "")
            return frozenset()
        return frozenset(value)

    outputs, inputs = owners("outputs"), owners("inputs")
    if "outputs" not in data:
        bad("[outputs] is missing", "name every output and its owner")
    public = names("public", data.get("public", []), None)
    logits = names("logits", data.get("logits", []), None)
    groups = data.get("coalitions", [])
    if not isinstance(groups, list) or not all(groups):
        bad("coalitions is a list of lists of places")
        groups = []
    coalitions = tuple(names("a coalition", g, PLACES) for g in groups)
    collect(problems)
    return Policy(where, outputs, {**declared.inputs, **inputs}, public, coalitions, logits)
