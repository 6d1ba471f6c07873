"""Which ring every op of a tensor module is computed in.

One ring is the program's. Ops that the user named, or the analysis chose, are computed in the other
one. With named ops go those that only move what such ops take or give, so that no value is cast
twice for nothing. Where a value crosses from one ring to the other it is an activation: products
are truncated before.

What the analysis chooses a ring for is a *unit*: a product with the sums that it joins before it is
truncated, or everything that is computed from activations between products.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mpcc.errors import Diagnostic, collect
from mpcc.ir.analysis.forms import CONST, PRODUCT, forms, kind_of
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import DEFAULT_RING, RINGS, FormatOptions, Phi

__all__ = ["Rings", "Unit", "units"]

_NAMED = 8
"""Nodes that an error lists."""


@dataclass(frozen=True)
class Rings:
    """Rings of a function's ops.

    Attributes:
        main: bits of the program's ring.
        others: ops, by number, in the other ring.
    """

    main: int
    others: frozenset[int] = frozenset()

    @classmethod
    def of_phi(cls, phi: Phi) -> Rings:
        """Those that formats name."""
        return cls(phi.ring, frozenset(phi.others))

    @classmethod
    def of_narrow(cls, module: Module, narrow: Collection[int]) -> Rings:
        """These ops in 32 bits and all others in 64; the ring of most is the program's.

        An input goes with its users, if they agree.
        """
        function, small, large = module.main, min(RINGS), max(RINGS)
        asked = {
            i: small if i in narrow else large
            for i in _computed(function)
            if function.ops[i].definition is not tensor.Input
        }
        few = sum(ring == small for ring in asked.values())
        main = small if few > len(asked) - few else large
        return cls.of_ops(module, main, asked)

    @classmethod
    def of_ops(cls, module: Module, main: int, asked: Mapping[int, int]) -> Rings:
        """Rings of some ops by number; the others go with them, or are in the program's."""
        return cls(main, _spread(module.main, main, asked))

    @classmethod
    def chosen(cls, module: Module, options: FormatOptions) -> Rings:
        """Those that the options ask for.

        Raises:
            MpccError: ``E-option-ring``: names that no op of the module has, all of them.
        """
        ops, main = module.main.ops, options.ring or DEFAULT_RING
        if not options.rings:
            return cls(main)
        computed = _computed(module.main)
        asked: dict[int, int] = {}
        unknown: list[Diagnostic] = []
        for pattern, ring in options.rings.items():
            named = [
                i
                for i, op in enumerate(ops)
                if i in computed and (op.loc == pattern or fnmatchcase(op.loc, pattern))
            ]
            asked.update(dict.fromkeys(named, ring))
            if not named:
                known = list(dict.fromkeys(ops[i].loc for i in computed if ops[i].loc))
                listed = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
                unknown.append(
                    Diagnostic(
                        "E-option-ring",
                        f"the model has no node {pattern!r}, or none that is left after folding",
                        "--ring",
                        f"its nodes are {listed}",
                    )
                )
        collect(unknown)
        return cls.of_ops(module, main, asked)

    def of(self, index: int) -> int:
        """Bits of the ring of the op of this number."""
        return _other(self.main) if index in self.others else self.main

    def table(self, ops: Sequence[Op]) -> dict[Value, int]:
        """The ring of every value as produced."""
        return {v: self.of(i) for i, op in enumerate(ops) for v in op.results}

    def _uses(self, function: Function) -> dict[Value, set[int]]:
        """Per value, the rings of the ops that use it; an output takes any."""
        found: dict[Value, set[int]] = {}
        for i, op in enumerate(function.ops):
            if kind_of(op) is not Kind.OUTPUT:
                for value in op.operands:
                    found.setdefault(value, set()).add(self.of(i))
        return found

    def crossings(self, function: Function) -> list[int]:
        """Ops whose results are used in another ring than theirs, outputs aside."""
        if not self.others:
            return []
        uses = self._uses(function)
        return [
            i
            for i, op in enumerate(function.ops)
            if any(uses.get(v, set()) - {self.of(i)} for v in op.results)
        ]

    def leaving(self, function: Function) -> frozenset[Value]:
        """Values that are used in a smaller ring than theirs, and nowhere else."""
        if not self.others:
            return frozenset()
        made, uses = self.table(function.ops), self._uses(function)
        opened = {v for op in function.ops if kind_of(op) is Kind.OUTPUT for v in op.operands}
        return frozenset(v for v, rings in uses.items() if max(rings) < made[v] and v not in opened)


@dataclass(frozen=True)
class Unit:
    """Ops that are computed in one ring.

    Attributes:
        ops: their numbers.
        multiplies: whether they are products and sums of products.
    """

    ops: tuple[int, ...]
    multiplies: bool


def units(function: Function) -> list[Unit]:
    """The units of a tensor function, in the order of their first ops; inputs belong to none."""
    form = forms(function).form
    computed = [i for i in _computed(function) if function.ops[i].definition is not tensor.Input]
    multiplies = {i: form[function.ops[i].results[0]] == PRODUCT for i in computed}
    made = {r: i for i in computed for r in function.ops[i].results}
    first: dict[int, int] = {}

    def root(i: int) -> int:
        while first.setdefault(i, i) != i:
            i = first[i]
        return i

    for i in computed:
        op = function.ops[i]
        if kind_of(op) is Kind.PRODUCT:
            continue  # what it takes are activations, which may come from another ring
        for value in op.operands:
            j = made.get(value)
            if j is not None and multiplies[j] == multiplies[i]:
                one, other = sorted((root(i), root(j)))
                first[other] = one
    found: dict[int, list[int]] = {}
    for i in computed:
        found.setdefault(root(i), []).append(i)
    return [Unit(tuple(ops), multiplies[i]) for i, ops in sorted(found.items())]


def _other(ring: int) -> int:
    (found,) = (r for r in RINGS if r != ring)
    return found


def _computed(function: Function) -> list[int]:
    """Ops that give something that is no constant: those have a ring of their own."""
    form = forms(function).form
    return [i for i, op in enumerate(function.ops) if any(form[v] != CONST for v in op.results)]


def _spread(function: Function, main: int, asked: Mapping[int, int]) -> frozenset[int]:
    """The ops in the other ring: those asked for, and those that only move their values.

    A structural op goes with its operands, an input with its users, if they agree.
    """
    found = {i for i, ring in asked.items() if ring != main}
    if not found:
        return frozenset()
    computed = set(_computed(function))
    made = {v: i for i, op in enumerate(function.ops) for v in op.results}

    def all_other(numbers: Iterable[int]) -> bool:
        numbers = [i for i in numbers if i in computed]
        return bool(numbers) and found.issuperset(numbers)

    for i, op in enumerate(function.ops):
        moves = kind_of(op) is Kind.STRUCTURAL and i in computed and i not in asked
        if moves and all_other(made[v] for v in op.operands):
            found.add(i)
    users: dict[Value, list[int]] = {}
    for i, op in enumerate(function.ops):
        for v in op.operands:
            users.setdefault(v, []).append(i)
    for i, op in enumerate(function.ops):
        if op.definition is tensor.Input and i not in asked and all_other(users.get(op.result, ())):
            found.add(i)
    return frozenset(found)
