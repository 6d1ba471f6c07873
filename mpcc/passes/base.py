"""What a pass is, and the manager that runs a list of them.

A pass is a frozen dataclass: its fields are its typed options, its docstring says what it is for,
what it assumes, and shows text before and after. It takes a valid module and gives a valid module:
of the same level, or, if it is a lowering, a new one of the next level.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.define import Dialect
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify

__all__ = [
    "Checkpoint",
    "Event",
    "Hook",
    "Made",
    "Manager",
    "Pass",
    "Result",
    "make_pass",
    "no_hook",
]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Made:
    """A weight that its owner computes from others; which ones depends on the architecture alone.

    Attributes:
        name: of the new weight.
        sources: names of the weights that it is made of, which may be made ones before it.
        compute: its array, from theirs.
    """

    name: str
    sources: tuple[str, ...]
    compute: Callable[[Sequence[Array]], Array]

    def add_to(self, constants: dict[str, Array]) -> None:
        """Compute it, of its first source's dtype."""
        arrays = [constants[name] for name in self.sources]
        wide = [np.asarray(a, np.float64) for a in arrays]
        constants[self.name] = np.asarray(self.compute(wide), arrays[0].dtype)


@dataclass(frozen=True)
class Result:
    """What a pass gives.

    Attributes:
        module: the module that was given, changed in place, or a new one.
        modified: whether its text differs from that of the module that was given.
        notes: refusals and remarks for the reader of a dump.
        renamed: weights that have another name now: new name -> old name.
        made: weights that are new, in the order in which they are computed.
    """

    module: Module
    modified: bool
    notes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    made: tuple[Made, ...] = ()


@dataclass(frozen=True)
class Pass:
    """Base of all passes."""

    name: ClassVar[str]
    """Kebab case; the file has the same name with underscores."""

    level: ClassVar[str]
    """Level of the modules that it takes."""

    def run(self, module: Module) -> Result:
        """Transform a module of level ``level``, which the pass may change in place.

        Raises:
            MpccError: the module has something that the pass must refuse.
        """
        raise NotImplementedError(self.name)


@dataclass(frozen=True)
class Event:
    """What the hook learns after each pass.

    Attributes:
        position: of the pass in the list, from 0.
        pass_name: its name.
        result: what it gave.
        seconds: wall time of the pass alone.
        earlier: names of the passes before it.
    """

    position: int
    pass_name: str
    result: Result
    seconds: float
    earlier: tuple[str, ...]


Hook = Callable[[Event], None]


def no_hook(event: Event) -> None:
    """A hook that does nothing."""


class Checkpoint:
    """The usual hook: verifies, dumps and times; one for all stages of a compilation.

    Args:
        dialects: by level; modules of a level that is missing are not verified.
        dump_after: names of passes after which the module's text goes to ``dump``; ``all`` for all.
        dump: takes the text.

    Attributes:
        seconds: (stage, wall time) in order; passes and what :meth:`timed` was used for.
        renamed: weights by the name that they have now -> name that they had at first, or when they
            were made.
    """

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        dump_after: Collection[str] = (),
        dump: Callable[[str], None] | None = None,
    ) -> None:
        self._dialects = dialects
        self._dump_after = frozenset(dump_after)
        self._dump = dump
        self.seconds: list[tuple[str, float]] = []
        self.renamed: dict[str, str] = {}
        self._made: list[Made] = []

    def constants(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The weights of the imported model, and those that passes made of them.

        Args:
            given: by the names that the model has for them.
        """
        constants = dict(given)
        for made in self._made:
            made.add_to(constants)
        return constants

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage that is no pass."""
        start = time.perf_counter()
        yield
        self.seconds.append((stage, time.perf_counter() - start))

    def __call__(self, event: Event) -> None:
        """Look at the module after one pass.

        Raises:
            MpccError: the pass broke the module; names it and the passes before.
        """
        self.seconds.append((event.pass_name, event.seconds))
        self._made.extend(
            replace(made, sources=tuple(self.renamed.get(n, n) for n in made.sources))
            for made in event.result.made
        )
        renamed = event.result.renamed
        kept = {n: first for n, first in self.renamed.items() if n not in renamed.values()}
        new = {now: self.renamed.get(old, old) for now, old in renamed.items()}
        self.renamed = {**kept, **new}
        self.look(event.pass_name, event.result, event.earlier)

    def look(self, stage: str, result: Result, earlier: Sequence[str] = ()) -> None:
        """Dump and verify the module that a stage gave.

        Args:
            stage: name of the pass or stage.
            result: what it gave.
            earlier: names of those before it, for the message.

        Raises:
            MpccError: the module is not valid.
        """
        module = result.module
        if self._dump is not None and self._dump_after & {"all", stage}:
            state = "" if result.modified else " (nothing changed)"
            lines = [f"// after {stage}{state}", *(f"// {n}" for n in result.notes)]
            self._dump("\n".join(lines) + "\n" + print_module(module))
        dialect = self._dialects.get(module.level)
        if dialect is None:
            return
        try:
            verify(module, dialect)
        except MpccError as error:
            raise MpccError.of(
                "E-pass-invalid",
                f"the module is not valid after this pass: {error}",
                f"pass {stage} (earlier: {', '.join(earlier) or 'none'})",
                "this is a fault of mpcc; please report it with the output of --dump-after all",
            ) from error


class Manager:
    """Runs passes in order.

    Args:
        passes: the list.
        hook: called after each pass.
    """

    def __init__(self, passes: Sequence[Pass], hook: Hook = no_hook) -> None:
        self.passes = tuple(passes)
        self.hook = hook

    def run(self, module: Module) -> Module:
        """The module after all passes; the one that was given may have changed.

        Raises:
            MpccError: a pass refuses the module, or the hook does.
        """
        earlier: tuple[str, ...] = ()
        for position, step in enumerate(self.passes):
            if module.level != step.level:
                raise MpccError.of(
                    "E-pass-level",
                    f"the pass takes modules of level {step.level}, not {module.level}",
                    f"pass {step.name}",
                )
            start = time.perf_counter()
            result = step.run(module)
            seconds = time.perf_counter() - start
            self.hook(Event(position, step.name, result, seconds, earlier))
            module = result.module
            earlier = (*earlier, step.name)
        return module


_SPEC = re.compile(r"([a-z][a-z0-9-]*)(?:\{([^{}]*)\})?")
_KINDS: Mapping[str, Callable[[str], object]] = {"int": int, "float": float, "str": str}


def _option(kind: str, text: str) -> object:
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    return _KINDS[kind](text)


def make_pass(text: str, known: Mapping[str, type[Pass]]) -> Pass:
    """A pass from its text, ``name`` or ``name{option=value, ...}``.

    Options have the kinds bool, int, float and str; a pass with others is made in Python only.

    Raises:
        MpccError: ``E-pass-name`` or ``E-pass-option``.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None or match[1] not in known:
        raise MpccError.of(
            "E-pass-name", f"there is no pass {text.strip()!r}", fix=f"known: {', '.join(known)}"
        )
    chosen = known[match[1]]
    # The type is its name in a module with postponed annotations.
    kinds = {f.name: str(getattr(f.type, "__name__", f.type)) for f in fields(chosen)}
    options: dict[str, object] = {}
    for item in filter(None, (part.strip() for part in (match[2] or "").split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        try:
            options[key] = _option(kinds[key], value)
        except (KeyError, ValueError):
            raise MpccError.of(
                "E-pass-option",
                f"bad option {item!r}" if equals else f"option {item!r} has no value",
                f"pass {match[1]}",
                f"options: {', '.join(f'{k} ({v})' for k, v in kinds.items()) or 'none'}",
            ) from None
    try:
        return chosen(**options)
    except TypeError as error:
        raise MpccError.of("E-pass-option", str(error), f"pass {match[1]}") from error
