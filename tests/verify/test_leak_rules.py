"""The rules one by one on programs of a few ops, the policy file, the report, and the command."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from benchmarks import models
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.cli import app
from mpcc.emit.graphdef import emit, parse
from mpcc.errors import MpccError
from mpcc.ir.core import Module, Op
from mpcc.ir.ops import party
from mpcc.ir.types import RingType
from mpcc.protocols import Ref, lower_program
from mpcc.verify_program import (
    Policy,
    check_program,
    declared_policy,
    load_policy,
    verify_artifact,
)
from mpcc.verify_program.peeling import peel
from mpcc.verify_program.program import flatten
from tests.verify.artifact_mutations import entries_of, packed
from tests.verify.programs import PROGRAMS, fused, lowered

SHAPE = (4,)
POLICY = Policy("test", {"y": "client"}, {"x": "client"})


class Small:
    """A program written by hand."""

    def __init__(self):
        self.module = Module("party", {"protocol": "none"})

    def op(self, definition, *operands, **attrs):
        op = self.module.main.append(definition, operands, attrs, "layer")
        return op.results[0] if op.results else None

    def secret(self, name="w", place="model"):
        return self.op(party.Weight, name=name, shape=SHAPE, ring=64, place=place)

    def draw(self, key, place, stream=0, phase="setup", shape=SHAPE):
        return self.op(
            party.DrawRing,
            key=key,
            stream=stream,
            phase=phase,
            place=place,
            shape=shape,
            ring=64,
        )

    def bits(self, key, place, planes, stream=0):
        return self.op(
            party.DrawBits,
            key=key,
            stream=stream,
            phase="setup",
            place=place,
            lanes=4,
            planes=planes,
        )

    def send(self, value, to, step="send"):
        return self.op(party.Transfer, value, to=to, step=step)

    def problems(self, policy=POLICY):
        return check_program(self.module, policy).all_problems

    def codes(self, policy=POLICY):
        return {p.code for p in self.problems(policy)}


def masked(p, place="P0", key="P1+model", **draw):
    """A secret at the model's owner under a mask, sent to ``place``."""
    w, r = p.secret(), p.draw(key, "model", **draw)
    return p.send(p.op(party.Add, w, r), place), r


def test_a_fresh_mask_is_accepted():
    p = Small()
    masked(p)
    assert p.problems() == ()


def test_nothing_masks():
    p = Small()
    p.send(p.secret(), "P1", "clear")
    (problem,) = p.problems()
    assert problem.code == "E-leak-mask"
    assert "no fresh draw" in problem.what
    assert problem.where == "node n1 party.transfer at P1, step 'clear' (from layer)"


def test_the_receiver_can_make_the_mask():
    p = Small()
    masked(p, "P1")
    (problem,) = p.problems()
    assert "P1 can make its mask, stream 0 of key P1+model" in problem.what


def test_one_mask_for_two_messages():
    p = Small()
    w, v, r = p.secret("w"), p.secret("v"), p.draw("P1+model", "model")
    p.send(p.op(party.Add, w, r), "P0", "one")
    p.send(p.op(party.Add, v, r), "P0", "two")
    assert p.codes() == {"E-leak-reuse"}
    assert {q.where.split("'")[1] for q in p.problems()} == {"one", "two"}


def test_one_mask_towards_two_receivers_is_fine_unless_they_collude():
    p = Small()
    w, v, r = p.secret("w"), p.secret("v"), p.draw("P1+model", "model")
    p.send(p.op(party.Add, w, r), "P0")
    p.send(p.op(party.Add, v, r), "P2")
    assert p.problems() == ()
    both = Policy("test", {}, {}, coalitions=(frozenset({"P0", "P2"}),))
    assert p.codes(both) == {"E-leak-reuse"}


def test_a_mask_of_the_other_holder_is_the_same_mask():
    p = Small()
    w, r = p.secret("w"), p.draw("P1+model", "model")
    at_p1 = p.draw("P1+model", "P1")
    p.send(p.op(party.Add, w, r), "P0")
    p.send(at_p1, "P0")
    assert p.codes() == {"E-leak-reuse"}


def test_order_of_peeling_is_found():
    """The first message's mask is in the payload of the second, which has a mask of its own."""
    p = Small()
    w, r, s = p.secret(), p.draw("P1+model", "model"), p.draw("P1+model", "model", 1)
    first = p.op(party.Add, w, r)
    p.send(first, "P0")
    p.send(p.op(party.Sub, p.op(party.Mul, first, r), s), "P0")
    assert p.problems() == ()
    order = peel(flatten(p.module), frozenset({"P0"})).order
    assert [mask for _, mask in order] == [2, 1]


def test_what_the_receiver_answers_is_its_own():
    """P0 sends back what it got: the mask of its message is not counted a second time."""
    p = Small()
    got, _ = masked(p)
    back = p.send(p.op(party.Mul, got, got), "P1")
    p.send(back, "P0", "again")
    assert not any(
        o.problems for o in check_program(p.module, POLICY).observers if o.places == "P0"
    )


@pytest.mark.parametrize(
    ("definition", "attrs", "good"),
    [
        (party.Neg, {}, True),
        (party.MulConst, {"value": -3}, True),
        (party.MulConst, {"value": 4}, False),
        (party.ShiftLeft, {"amount": 1}, False),
        (party.ShiftRight, {"amount": 1}, False),
        (party.LowBits, {"count": 63}, False),
        (party.LowBits, {"count": 64}, True),
        (party.Cast, {"ring": 64}, True),
        (party.AddConst, {"value": 5}, True),
        (party.Reshape, {"shape": (4,)}, True),
        (party.Transpose, {"perm": (0,)}, True),
        (party.Broadcast, {"shape": (4,), "dims": (0,)}, True),
        (party.Pad, {"low": (0,), "high": (0,)}, False),
        (party.Gather, {"axis": 0, "indices": (3, 1, 2, 0)}, True),
        (party.Gather, {"axis": 0, "indices": (3, 1, 2, 1)}, False),
        (party.ReduceSum, {"axes": ()}, False),
    ],
)
def test_ops_on_a_mask(definition, attrs, good):
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model")
    p.send(p.op(party.Add, w, p.op(definition, r, **attrs)), "P0")
    assert (p.codes() == set()) == good


def test_a_repeated_mask_is_refused():
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model", shape=(1,))
    p.send(p.op(party.Add, w, p.op(party.Broadcast, r, shape=SHAPE, dims=(0,))), "P0")
    assert p.codes() == {"E-leak-mask"}


def test_some_entries_of_a_mask_mask_as_many():
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model", shape=(6,))
    p.send(p.op(party.Add, w, p.op(party.Gather, r, axis=0, indices=(5, 0, 2, 3))), "P0")
    assert p.problems() == ()


def test_two_choices_of_one_mask_are_two_uses():
    """Even where they have no entry in common: the rule counts uses, not entries."""
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model", shape=(8,))
    for i, start in enumerate((0, 4)):
        part = p.op(party.Gather, r, axis=0, indices=tuple(range(start, start + 4)))
        p.send(p.op(party.Add, w, part), "P0", f"part_{i}")
    assert p.codes() == {"E-leak-reuse"}


def test_a_sum_over_an_axis_is_taken_for_no_mask():
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model", shape=(4, 2))
    p.send(p.op(party.Add, w, p.op(party.ReduceSum, r, axes=(1,))), "P0")
    assert p.codes() == {"E-leak-mask"}


def test_a_cut_of_a_masked_word_is_uniform_and_a_mask_of_low_bits_masks_low_bits_only():
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "model")
    total = p.op(party.Add, w, r)
    p.send(p.op(party.BitSlice, total, planes=5, shift=2), "P0")
    assert p.problems() == ()
    p = Small()
    low = p.op(party.LowBits, p.op(party.Add, p.secret(), p.draw("P1+model", "model")), count=5)
    p.send(low, "P0")
    assert p.problems() == ()
    p.send(p.op(party.Add, low, p.secret("v")), "P2")
    assert p.codes() == {"E-leak-mask"}


def test_the_low_half_of_a_mask_masks_and_a_widened_one_does_not():
    p = Small()
    w, r = p.op(party.Cast, p.secret(), ring=32), p.draw("P1+model", "model")
    p.send(p.op(party.Add, w, p.op(party.Cast, r, ring=32)), "P0")
    assert p.problems() == ()
    p = Small()
    half = p.op(party.Cast, p.draw("P1+model", "model"), ring=32)
    p.send(p.op(party.Add, p.secret(), p.op(party.Cast, half, ring=64)), "P0")
    assert p.codes() == {"E-leak-mask"}


def test_parts_of_a_message_need_masks_of_their_own():
    p = Small()
    w = p.op(party.BitSlice, p.secret(), planes=2)
    r, s = p.bits("P1+model", "model", 2), p.bits("P1+model", "model", 2, 1)
    a, b = p.op(party.Xor, w, r), p.op(party.Xor, p.op(party.Not, w), s)
    p.send(p.op(party.Join, a, b), "P0")
    assert p.problems() == ()
    p.send(p.op(party.Join, a, w), "P2", "half")
    assert {q.where.split("'")[1] for q in p.problems()} == {"half"}


def test_planes_of_a_message_depend_on_their_own_parts_only():
    """P2 passes on planes that were masked before; the other planes' mask plays no part."""
    p = Small()
    w = p.op(party.BitSlice, p.secret(), planes=2)
    r, s = p.bits("P1+model", "model", 2), p.bits("P1+model", "model", 2, 1)
    at_p2 = p.send(p.op(party.Join, p.op(party.Xor, w, r), p.op(party.Xor, w, s)), "P2")
    p.send(p.op(party.Planes, at_p2, indices=(0, 1)), "P0", "low")
    p.send(p.op(party.Planes, at_p2, indices=(2, 3)), "P0", "high")
    assert p.problems() == ()
    p.send(p.op(party.Planes, at_p2, indices=(3,)), "P0", "twice")
    assert p.codes() == {"E-leak-reuse"}


def test_a_mask_of_the_setup_for_a_message_of_a_run():
    p = Small()
    x = p.op(party.Input, name="x", shape=SHAPE, place="client")
    raw = p.op(party.Encode, x, frac=4, lo=-1.0, hi=1.0)
    p.send(p.op(party.Add, raw, p.draw("P1+client", "client")), "P0")
    (problem,) = p.problems()
    assert "comes back in every run" in problem.what


def test_streams():
    p = Small()
    masked(p)
    p.draw("P1+model", "P1", shape=(5,))
    assert p.codes() == {"E-leak-stream"}
    p = Small()
    p.draw("P1+model", "P1")
    p.draw("P1+model", "P1")
    assert p.codes() == {"E-leak-stream"}
    p = Small()
    p.draw("P1+model", "P1")
    p.draw("P1+model", "P1", phase="online")
    p.draw("P1+P2", "P1")
    p.draw("P1+model", "model")
    assert p.problems() == ()


def test_places():
    """Ops that mix places cannot be built; a file that decodes into one is refused all the same."""
    p = Small()
    w, r = p.secret(), p.draw("P1+model", "P1")
    bad = Op(party.Add, (w, r), {}, [RingType(SHAPE, 64, "model")], "layer")
    p.module.main.ops.append(bad)
    (problem,) = p.problems()
    assert problem.code == "E-leak-place"
    assert "P1, model" in problem.what
    p = Small()
    attrs = {"key": "P1+P2", "stream": 0, "phase": "setup", "place": "P0"}
    attrs |= {"shape": SHAPE, "ring": 64}
    p.module.main.ops.append(Op(party.DrawRing, (), attrs, [RingType(SHAPE, 64, "P0")]))
    (problem,) = p.problems()
    assert "P0 does not hold the key" in problem.what


def opened(p, first, second, owner="client"):
    """Two summands opened to an owner as output y."""
    total = p.op(party.Add, p.send(first, owner), p.send(second, owner))
    return p.op(party.Output, p.op(party.Decode, total, frac=0), name="y")


def halves(p):
    """Two secrets at P0 and P1, under one mask of theirs that cancels in the sum."""
    parts = []
    for place, combine in (("P0", party.Add), ("P1", party.Sub)):
        got = p.send(p.op(party.Add, p.secret(place), p.draw(f"{place}+model", "model")), place)
        plain = p.op(party.Sub, got, p.draw(f"{place}+model", place))
        parts.append((plain, p.op(combine, plain, p.draw("P0+P1", place))))
    return parts


def test_a_reveal_gives_the_sum_alone():
    p = Small()
    (a, masked_a), (b, masked_b) = halves(p)
    opened(p, masked_a, masked_b)
    found = {q.where for q in p.problems()}
    # Here P0 and P1 know a secret of the model each, by its own design; the client does not.
    assert not any("client" in where for where in found)
    assert found
    p = Small()
    (a, _), (b, masked_b) = halves(p)
    opened(p, a, masked_b)
    assert any("at client" in q.where for q in p.problems())
    p = Small()
    (a, _), (b, _) = halves(p)
    opened(p, a, b)
    assert any("at client" in q.where for q in p.problems())


def test_a_reveal_goes_to_the_owner_that_the_policy_names():
    p = Small()
    (_, a), (_, b) = halves(p)
    opened(p, a, b)
    wrong = Policy("test", {"y": "model"}, {})
    assert "E-leak-reveal" in p.codes(wrong)
    assert "E-leak-reveal" in p.codes(Policy("test", {}, {}))
    assert "E-leak-reveal" not in p.codes()


def test_public_values():
    p = Small()
    w = p.secret()
    p.send(p.op(party.Mul, w, w), "P0")
    assert p.codes() == {"E-leak-mask"}
    assert p.codes(Policy("test", {}, {}, frozenset({"w"}))) == set()


def test_ref_protects_nothing_and_is_refused():
    secure = PROGRAMS["perceptron"](64).module
    module = fused(lower_program(secure, Ref()).party)
    problems = check_program(module, declared_policy(secure)).all_problems
    assert {p.code for p in problems} == {"E-leak-mask"}


def test_two_parties_together_know_everything_in_rep3():
    secure = PROGRAMS["perceptron"](64).module
    policy = Policy(
        "test", {"scores": "client"}, {"x0": "client"}, coalitions=(frozenset({"P0", "P1"}),)
    )
    checked = check_program(fused(lowered(secure)), policy)
    assert [o.places for o in checked.observers if o.problems] == ["P0+P1"]


# --- policy files --------------------------------------------------------------------------------


def test_policy_file(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        'public = ["b"]\ncoalitions = [["P0", "client"]]\n[outputs]\ny = "client"\n'
        '[inputs]\nx = "model"\n'
    )
    found = load_policy(path, Policy("declared", {"y": "model"}, {"x": "client", "z": "client"}))
    assert found.outputs == {"y": "client"}
    assert found.inputs == {"x": "model", "z": "client"}
    assert found.public == {"b"}
    assert frozenset({"P0", "client"}) in found.observers()
    assert len(found.observers()) == 6


@pytest.mark.parametrize(
    "text",
    [
        "outputs = 3",
        "[outputs]\ny = 'P0'",
        "public = ['w']",
        "coalitions = [['P0', 'nobody']]\n[outputs]",
        "coalitions = [[]]\n[outputs]",
        "coalition = []\n[outputs]",
        "[outputs",
    ],
)
def test_bad_policy_files(text, tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(MpccError, match="E-policy"):
        load_policy(path, Policy("declared", {}, {}))


# --- artifacts and the command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(good artifact, one with a mask dropped, one with another output owner) as paths."""
    folder = tmp_path_factory.mktemp("artifacts")
    good = api.compile(models.network_a().serialized()).artifact
    good.save(folder / "good.mpcc")

    def with_program(program, name):
        manifest = good.manifest
        Artifact.create(
            tensor_module=good.tensor_module,
            secure_module=good.secure_module,
            program=program,
            protocol=good.protocol,
            phi=manifest["phi"],
            inputs=good.inputs,
            outputs=good.outputs,
            cost=good.cost,
            version=manifest["mpcc"],
        ).save(folder / name)

    module = parse(good.program)
    for op in module.main.walk("party.fused"):
        body = op.body
        assert body is not None
        draws = {d.result for d in body.walk("party.draw_ring")}
        sums = [
            o for o in body.walk("party.sub") if o.operands[1] in draws and o.result in body.returns
        ]
        if sums and op.operands:
            body.replace_uses({sums[0].result: sums[0].operands[0]})
            body.remove_dead()
            break
    with_program(emit(module), "leaky.mpcc")
    with_program(good.program[:-7], "broken.mpcc")
    return folder


def command(*args):
    return CliRunner().invoke(app, ["verify", *map(str, args)])


def test_command(files, tmp_path):
    result = command(files / "good.mpcc")
    assert result.exit_code == 0, result.output
    assert "accepted" in result.output
    shown = json.loads(command(files / "good.mpcc", "--json").output)
    assert shown["accepted"] is True
    by_place = {o["places"]: o for o in shown["observers"]}
    assert list(by_place) == ["P0", "P1", "P2", "client", "model"]
    assert by_place["client"]["opened"] == ["logits"]
    assert "'logits' (1x10)" in by_place["client"]["learns"]
    assert by_place["P0"]["learns"].startswith("learns nothing")
    assert by_place["P1"]["messages"] > 0
    assert "ring 64" in shown["disclosed"]["formats"]
    assert shown["trusted"]
    # For people, not as Python writes dicts and lists.
    assert "disclosed: output shapes: logits 1×10" in result.output
    assert not re.search(r"disclosed: .*[\[{]", result.output)


def test_command_refuses(files, tmp_path):
    result = command(files / "leaky.mpcc")
    assert result.exit_code == 1
    shown = json.loads(command(files / "leaky.mpcc", "--json").output)
    assert shown["accepted"] is False
    codes = {p["code"] for o in shown["observers"] for p in o["problems"]}
    codes |= {p["code"] for p in shown["problems"]}
    assert "E-leak-program" in codes
    assert codes & {"E-leak-mask", "E-leak-reuse"}
    assert command(files / "broken.mpcc").exit_code == 1
    policy = tmp_path / "p.toml"
    policy.write_text('[outputs]\nlogits = "model"\n')
    assert command(files / "good.mpcc", "--policy", policy).exit_code == 1
    policy.write_text('[outputs]\nlogits = "client"\n')
    assert command(files / "good.mpcc", "--policy", policy).exit_code == 0


def test_an_artifact_that_says_another_protocol_is_refused(files):
    good = Artifact.load(files / "good.mpcc")
    data = packed(entries_of(good), lambda manifest: manifest.update(protocol="ref"))
    changed = Artifact.from_bytes(data)
    report = verify_artifact(changed)
    assert not report.accepted
    assert {p.code for p in report.problems} == {"E-leak-program"}


def test_an_opened_value_must_not_hide_one_message_behind_another():
    """What the owner adds itself could depend on the other message, which it knows."""
    p = Small()
    (_, a), (_, b) = halves(p)
    first, second = p.send(a, "client"), p.send(b, "client")
    total = p.op(party.Add, first, p.op(party.ShiftLeft, second, amount=1))
    p.op(party.Output, p.op(party.Decode, total, frac=0), name="y")
    assert any("at client" in q.where for q in p.problems())


def test_an_owner_does_not_answer_what_it_opens():
    p = Small()
    (_, a), (_, b) = halves(p)
    first, second = p.send(a, "client"), p.send(b, "client")
    back = p.send(first, "P2")
    more = p.send(p.op(party.Add, back, p.draw("P0+P2", "P2", 7)), "client")
    total = p.op(party.Add, p.op(party.Add, first, second), more)
    p.op(party.Output, p.op(party.Decode, total, frac=0), name="y")
    assert any("at client" in q.where for q in p.problems())
