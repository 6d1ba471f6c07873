"""Local rewriting: stateless rules that match, check, and rewrite through a :class:`Rewriter`.

A rule looks at one op at a time. It does not apply (``match`` returns None), or it would apply but
must not (``check`` gives the reason, which passes report), or it rewrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from mpcc.ir.core import Function, Op, Value, make_op
from mpcc.ir.define import Attributes, Operation

__all__ = ["Outcome", "Refusal", "Rewriter", "Rule", "apply_rules"]

M = TypeVar("M")

_ROUNDS = 100


@dataclass(frozen=True)
class Refusal:
    """A rule that matched and was not applied.

    Attributes:
        rule: its name.
        op: name and origin of the op.
        reason: why not.
    """

    rule: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.op}: {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """What :func:`apply_rules` did: the number of rewrites, and the refusals that remain."""

    applied: int
    refusals: tuple[Refusal, ...]


class Rewriter:
    """All mutation of one function goes through here, one anchor op at a time."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._uses: dict[Value, list[tuple[Op, int]]] = {}
        self._returned: set[Value] = set()
        self._new: list[Op] = []
        self._replaced: dict[Value, Value] = {}
        self.refresh()

    def refresh(self) -> None:
        """Recompute uses after the function has changed."""
        self._uses = self.function.uses()
        self._returned = set(self.function.returns)

    def users(self, value: Value) -> list[Op]:
        """Ops that use the value, once per operand."""
        return [op for op, _ in self._uses.get(value, [])]

    def only_user(self, value: Value, op: Op) -> bool:
        """Whether ``op`` is the only thing that uses ``value``."""
        return value not in self._returned and all(user is op for user in self.users(value))

    def insert(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes | None = None,
        loc: str = "",
    ) -> Value:
        """Add an op with one result before the anchor.

        Raises:
            InferenceError: operands or attributes do not fit.
        """
        op = make_op(definition, operands, attrs, loc)
        self._new.append(op)
        return op.result

    def replace(self, old: Value, new: Value) -> None:
        """Use ``new`` wherever ``old`` is used.

        Raises:
            ValueError: the types differ; a rewrite must not change what others see.
        """
        if old.type != new.type:
            raise ValueError(f"{old.type} cannot be replaced by {new.type}")
        self._replaced[old] = new

    def commit(self, anchor: Op) -> None:
        """Carry out what was asked for since the last commit; the anchor is where ops go.

        Takes time by what changes, not by the size of the function: models of thousands of ops
        have thousands of rewrites.
        """
        position = self.function.ops.index(anchor)
        self.function.ops[position:position] = self._new
        for op in self._new:
            for i, value in enumerate(op.operands):
                self._uses.setdefault(value, []).append((op, i))
        for old in self._replaced:
            new = old
            while new in self._replaced:
                new = self._replaced[new]
            moved = self._uses.pop(old, [])
            for op, i in moved:
                op.operands[i] = new
            self._uses.setdefault(new, []).extend(moved)
            if old in self._returned:
                self.function.returns = [new if v is old else v for v in self.function.returns]
                self._returned = set(self.function.returns)
        self._new, self._replaced = [], {}


class Rule(Generic[M]):
    """Base of all rules; ``M`` is what a match carries from ``match`` to ``rewrite``."""

    name: ClassVar[str]
    anchors: ClassVar[tuple[str, ...]]
    """Names of the ops that ``match`` is asked about."""

    def match(self, op: Op) -> M | None:
        """What the rule found at ``op``; None if it has no business there."""
        raise NotImplementedError(self.name)

    def check(self, op: Op, match: M, rewriter: Rewriter) -> str:
        """Why the rewrite would be wrong or useless; empty if it is right."""
        return ""

    def rewrite(self, op: Op, match: M, rewriter: Rewriter) -> None:
        """Insert ops before ``op`` and replace values."""
        raise NotImplementedError(self.name)


def apply_rules(function: Function, rules: Sequence[Rule[Any]]) -> Outcome:
    """Apply rules in order until none applies, then remove what became unused.

    Raises:
        RuntimeError: the rules do not come to an end (a fault of the rules).
    """
    rewriter = Rewriter(function)
    applied = 0
    for _ in range(_ROUNDS):
        before = applied
        refusals: list[Refusal] = []
        for op in list(function.ops):
            for rule in rules:
                if op.name not in rule.anchors or (match := rule.match(op)) is None:
                    continue
                reason = rule.check(op, match, rewriter)
                if reason:
                    where = op.name + (f" ({op.loc})" if op.loc else "")
                    refusals.append(Refusal(rule.name, where, reason))
                    continue
                rule.rewrite(op, match, rewriter)
                rewriter.commit(op)
                applied += 1
                break
        if applied == before:
            return Outcome(applied, tuple(refusals))
        function.remove_dead()
        rewriter.refresh()
    names = ", ".join(r.name for r in rules)
    raise RuntimeError(f"rules {names} do not reach an end in {_ROUNDS} rounds")
