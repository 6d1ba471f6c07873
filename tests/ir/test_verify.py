"""Mutations of valid modules that the verifier must see."""

import pytest

from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.ir.types import BitsType, SecureType, TensorType
from mpcc.ir.verify import verify
from tests.ir.samples import SAMPLES, type_of


def problems(module) -> list[tuple[str, str]]:
    with pytest.raises(MpccError) as caught:
        verify(module, DIALECTS[module.level])
    return [(d.code, d.where) for d in caught.value.diagnostics]


def find(module, name) -> tuple[int, Op]:
    return next((i, op) for i, op in enumerate(module.main.ops) if op.name == name)


def place(position: int, op: Op) -> str:
    return f"@main, op {position} {op.name} (from {op.loc})"


def changed_at_once(module, change) -> tuple[set[str], list[tuple[str, str]]]:
    """Places that ``change(op)`` says it changed, and the problems of the module.

    Results keep their types, so that no op suffers from what was done to another.
    """
    places = {place(i, op) for i, op in enumerate(module.main.ops) if change(op)}
    return places, problems(module) if places else []


@pytest.mark.parametrize("level", SAMPLES)
def test_every_op_moved_before_its_operands(level):
    module = SAMPLES[level]()
    ops = list(module.main.ops)
    positions = [i for i, op in enumerate(ops) if op.operands]
    assert len(positions) > 5
    for position in positions:
        # What follows is left out: the first problem is looked at.
        module.main.ops = [ops[position], *ops[:position]]
        found = problems(module)
        assert found[0][0] == "E-ir-order"
        assert f"op 0 {ops[position].name}" in found[0][1]


@pytest.mark.parametrize("level", SAMPLES)
def test_every_op_removed_while_its_result_is_used(level):
    module = SAMPLES[level]()
    used = module.main.uses()
    ops = list(module.main.ops)
    positions = [i for i, op in enumerate(ops) if any(r in used for r in op.results)]
    for position in positions:
        module.main.ops = ops[:position] + ops[position + 1 :]
        assert {code for code, _ in problems(module)} == {"E-ir-order"}


@pytest.mark.parametrize("level", SAMPLES)
def test_every_result_type_changed(level):
    count = 0
    module = SAMPLES[level]()
    ops = list(module.main.ops)
    for position, op in enumerate(ops):
        if not op.results or op.body is not None:
            continue
        right = op.results[0].type
        op.results[0].type = BitsType(999, 3, "P1")
        module.main.ops = ops[: position + 1]
        codes = problems(module)
        op.results[0].type = right
        assert codes[0] == ("E-ir-type", place(position, op))
        count += 1
    assert count > 10


@pytest.mark.parametrize("level", SAMPLES)
def test_every_attribute_of_a_wrong_kind(level):
    """The first attribute of every op, then the second of every op, and so on."""
    count = 0
    for number in range(max(len(op.attrs) for op in SAMPLES[level]().main.ops)):

        def spoil(op, number=number):
            for key in list(op.attrs)[number : number + 1]:
                op.attrs[key] = ("wrong", ("kind",))
                return True
            return False

        changed, found = changed_at_once(SAMPLES[level](), spoil)
        assert found == [("E-ir-type", where) for _, where in found]
        assert {where for _, where in found} == changed
        count += len(changed)
    assert count > 20


@pytest.mark.parametrize("level", SAMPLES)
def test_every_attribute_missing(level):
    """As above, the first ones first."""
    for number in range(max(len(op.attrs) for op in SAMPLES[level]().main.ops)):

        def spoil(op, number=number):
            for key in list(op.attrs)[number : number + 1]:
                del op.attrs[key]
                return True
            return False

        changed, found = changed_at_once(SAMPLES[level](), spoil)
        assert {code for code, _ in found} <= {"E-ir-type", "E-ir-attrs"}
        assert {where for _, where in found} == changed


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v + v[:1]], ids=["less", "more"])
@pytest.mark.parametrize("level", SAMPLES)
def test_every_operand_dropped_or_doubled(level, change):
    def spoil(op):
        operands = change(op.operands)
        least, most = op.definition.arity()
        if op.body is not None or not op.operands:
            return False
        if most is None or least <= len(operands) <= most:
            return False
        op.operands = operands
        return True

    changed, found = changed_at_once(SAMPLES[level](), spoil)
    assert changed
    assert sorted(found) == sorted(("E-ir-arity", where) for where in changed)


@pytest.mark.parametrize("level", SAMPLES)
def test_every_op_renamed_to_another_level(level):
    class Foreign(Operation):
        """Not in any dialect."""

        name = "tensor.foreign"

    other = "secure" if level == "tensor" else "tensor"
    foreign = next(iter(DIALECTS[other].operations.values()))
    for definition in (Foreign, foreign):
        module = SAMPLES[level]()
        module.main.ops[-1].definition = definition
        assert problems(module)[0][0] == "E-ir-level"


def test_visibility_cannot_be_weakened_by_hand():
    module = SAMPLES["tensor"]()
    position, op = find(module, "tensor.matmul")
    assert type_of(op.result).visibility == "secret"
    op.result.type = TensorType(type_of(op.result).shape, "f32", "client")
    assert ("E-ir-type", f"@main, op {position} tensor.matmul (from {op.loc})") in problems(module)


def test_a_narrower_width_than_declared():
    module = SAMPLES["secure"]()
    _, op = find(module, "secure.matmul")
    t = type_of(op.result)
    op.result.type = SecureType(t.shape, t.ring, t.frac, t.width - 1, t.visibility)
    assert problems(module)[0][0] == "E-ir-type"


def test_a_body_that_takes_other_values():
    module = SAMPLES["party"]()
    _, op = find(module, "party.fused")
    op.operands = op.operands[:1]
    assert problems(module)[0][0] == "E-ir-body"


def test_a_body_that_uses_a_value_from_outside():
    module = SAMPLES["party"]()
    _, op = find(module, "party.fused")
    assert op.body is not None
    op.body.ops[0].operands[0] = op.operands[0]
    (found,) = problems(module)
    assert found[0] == "E-ir-order"
    assert "party.fused" in found[1]
    assert "op 0 party.xor" in found[1]


def test_a_returned_value_of_another_function():
    module = SAMPLES["tensor"]()
    module.main.returns = [Value(TensorType((1,)), None, 0)]
    assert problems(module) == [("E-ir-order", "@main")]


def test_a_module_of_another_level():
    with pytest.raises(MpccError, match="module of level tensor, not secure"):
        verify(SAMPLES["tensor"](), DIALECTS["secure"])


def test_all_problems_are_reported_at_once():
    module = SAMPLES["tensor"]()
    changed = list(module.main.walk(tensor.Relu.name, tensor.Pad.name))
    for op in changed:
        op.attrs["bogus"] = 1
    assert len(problems(module)) == len(changed) > 2
