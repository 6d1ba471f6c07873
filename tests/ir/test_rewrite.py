"""The rewriter: rules match, check, rewrite; refusals carry reasons."""

from typing import ClassVar

import pytest

from mpcc.ir.core import Op
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Outcome, Refusal, Rewriter, Rule, apply_rules
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify


def chain(count: int):
    """Relus in a row."""
    lines = ['%0 = tensor.input() {name = "x", shape = [2]} : tensor<2xf32, client>']
    for i in range(count):
        lines.append(f'%{i + 1} = tensor.relu(%{i}) : tensor<2xf32, client> loc("r{i}")')
    lines.append(f'tensor.output(%{count}) {{name = "y"}}')
    body = "\n".join(lines)
    return parse_module(f"module tensor {{ func @main() {{ {body} }} }}", DIALECTS)


class ReluTwice(Rule[Op]):
    """relu(relu(x)) = relu(x)."""

    name = "relu-twice"
    anchors: ClassVar[tuple[str, ...]] = ("tensor.relu",)

    def match(self, op: Op) -> Op | None:
        source = op.operands[0].op
        return source if source is not None and source.name == "tensor.relu" else None

    def check(self, op: Op, match: Op, rewriter: Rewriter) -> str:
        return "keep me" if op.loc == "kept" else ""

    def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
        new = rewriter.insert(tensor.Relu, match.operands, {}, op.loc)
        rewriter.replace(op.result, new)


def test_rules_run_to_the_end_and_leave_nothing_behind():
    module = chain(7)
    outcome = apply_rules(module.main, [ReluTwice()])
    assert outcome.applied >= 1
    assert outcome.refusals == ()
    verify(module, DIALECTS["tensor"])
    assert [op.name for op in module.main.ops] == ["tensor.input", "tensor.relu", "tensor.output"]
    assert module.main.ops[1].loc == "r6"


def test_nothing_to_do_changes_nothing():
    module = chain(1)
    before = print_module(module)
    assert apply_rules(module.main, [ReluTwice()]) == Outcome(0, ())
    assert print_module(module) == before


def test_refusals_have_the_rule_the_op_and_the_reason():
    module = chain(2)
    module.main.ops[2].loc = "kept"
    outcome = apply_rules(module.main, [ReluTwice()])
    assert outcome == Outcome(0, (Refusal("relu-twice", "tensor.relu (kept)", "keep me"),))
    assert str(outcome.refusals[0]) == "relu-twice at tensor.relu (kept): keep me"


def test_other_users_keep_the_inner_op():
    module = chain(2)
    module.main.append(tensor.Output, [module.main.ops[1].result], {"name": "inner"})
    apply_rules(module.main, [ReluTwice()])
    verify(module, DIALECTS["tensor"])
    assert [op.name for op in module.main.ops].count("tensor.relu") == 2


def test_a_replacement_of_another_type_is_refused():
    class Wrong(ReluTwice):
        def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
            new = rewriter.insert(tensor.Reshape, match.operands, {"shape": (1, 2)})
            rewriter.replace(op.result, new)

    with pytest.raises(ValueError, match="cannot be replaced by"):
        apply_rules(chain(2).main, [Wrong()])


def test_rules_without_an_end_are_stopped():
    class Forever(ReluTwice):
        def match(self, op: Op) -> Op | None:
            return op

        def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
            rewriter.replace(op.result, rewriter.insert(tensor.Relu, op.operands))

    with pytest.raises(RuntimeError, match="rules relu-twice do not reach an end"):
        apply_rules(chain(1).main, [Forever()])


def test_users():
    module = chain(2)
    rewriter = Rewriter(module.main)
    x, first, second, output = module.main.ops
    assert rewriter.users(x.result) == [first]
    assert rewriter.only_user(first.result, second)
    module.main.returns = [first.result]
    rewriter.refresh()
    assert not rewriter.only_user(first.result, second)
    assert not rewriter.only_user(second.result, second)
    assert rewriter.only_user(second.result, output)


def test_uses_stay_those_of_the_function():
    """After every commit the rewriter knows the same uses as a new one would."""
    module = chain(5)
    main = module.main
    main.append(tensor.Add, [main.ops[3].result, main.ops[3].result])
    returned = main.ops[3].result
    main.returns = [returned]
    rewriter = Rewriter(main)
    for op in main.ops[2:5]:
        first = rewriter.insert(tensor.Relu, op.operands, {})
        second = rewriter.insert(tensor.Add, [op.operands[0], op.operands[0]], {})
        rewriter.replace(op.result, first)
        # A chain of replacements ends at the last one.
        rewriter.replace(first, second)
        rewriter.commit(op)
        fresh = Rewriter(main)
        for each in main.ops:
            for value in each.results:
                assert sorted(map(id, rewriter.users(value))) == sorted(map(id, fresh.users(value)))
                assert rewriter.only_user(value, each) == fresh.only_user(value, each)
    assert main.returns != [returned]
    assert all(value.op in main.ops for value in main.returns)
    assert not any(returned in op.operands for op in main.ops)
