"""fuse-local: golden texts, what it refuses, and that it changes no result, byte or round."""

import numpy as np
import pytest

from mpcc.emit.graphdef import emit, parse
from mpcc.ir.interp.party import run
from mpcc.ir.ops.party import DIALECT, PartyOperation
from mpcc.ir.schedule import ONLINE, SETUP, schedule
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import place_of
from mpcc.ir.verify import verify
from mpcc.passes.fuse_local import FuseLocal
from tests.emit.programs import every_op, inputs_for, random_program

HEAD = """\
module party {
  func @main() {
    %0 = party.input() {name = "x", shape = [3], place = "client"} : clear<3xf32>@client
    %1 = party.encode(%0) {frac = 8, lo = -1.0, hi = 1.0} : ring64<3>@client
    %2 = party.transfer(%1) {to = "P0", step = "share"} : ring64<3>@P0
    %3 = party.transfer(%1) {to = "P1", step = "share"} : ring64<3>@P1
"""
TAIL = """\
  }
}
"""


def fused(text: str) -> str:
    module = parse_module(HEAD + text + TAIL, {"party": DIALECT})
    verify(module, DIALECT)
    FuseLocal().run(module)
    verify(module, DIALECT)
    printed = print_module(module)
    assert printed.startswith(HEAD)
    return printed[len(HEAD) : -len(TAIL)]


def test_a_chain_with_its_draw_becomes_a_region():
    before = """\
    %4 = party.add_const(%2) {value = 5} : ring64<3>@P0 loc("relu_0")
    %5 = party.draw_ring() {key = "P0+P1", stream = 1, place = "P0", shape = [3]} : ring64<3>@P0
    %6 = party.add(%4, %5) : ring64<3>@P0 loc("relu_0")
    %7 = party.transfer(%6) {to = "P1", step = "mask"} : ring64<3>@P1
    %8 = party.sub(%6, %2) : ring64<3>@P0 loc("relu_0")
    %9 = party.transfer(%8) {to = "P2", step = "mask"} : ring64<3>@P2
    %10 = party.transfer(%7) {to = "client", step = "open"} : ring64<3>@client
    %11 = party.transfer(%9) {to = "client", step = "open"} : ring64<3>@client
    %12 = party.decode(%10) {frac = 8} : clear<3xf32>@client
    %13 = party.decode(%11) {frac = 8} : clear<3xf32>@client
    party.output(%12) {name = "y"}
    party.output(%13) {name = "z"}
"""
    assert (
        fused(before)
        == """\
    %4, %5 = party.fused(%2) body(%6: ring64<3>@P0) {
      %7 = party.add_const(%6) {value = 5} : ring64<3>@P0 loc("relu_0")
      %8 = party.draw_ring() {key = "P0+P1", stream = 1, place = "P0", shape = [3]} : ring64<3>@P0
      %9 = party.add(%7, %8) : ring64<3>@P0 loc("relu_0")
      %10 = party.sub(%9, %6) : ring64<3>@P0 loc("relu_0")
      return %9, %10
    } : ring64<3>@P0, ring64<3>@P0 loc("relu_0")
    %11 = party.transfer(%4) {to = "P1", step = "mask"} : ring64<3>@P1
    %12 = party.transfer(%5) {to = "P2", step = "mask"} : ring64<3>@P2
    %13 = party.transfer(%11) {to = "client", step = "open"} : ring64<3>@client
    %14 = party.transfer(%12) {to = "client", step = "open"} : ring64<3>@client
    %15 = party.decode(%13) {frac = 8} : clear<3xf32>@client
    %16 = party.decode(%14) {frac = 8} : clear<3xf32>@client
    party.output(%15) {name = "y"}
    party.output(%16) {name = "z"}
"""
    )


OUT = """\
    %90 = party.transfer(%80) {{to = "client", step = "open"}} : ring64<{0}>@client
    %91 = party.decode(%90) {{frac = 8}} : clear<{0}xf32>@client
    party.output(%91) {{name = "y"}}
"""


def regions(text: str, shape: str = "3") -> list[list[str]]:
    """Names of the ops of every region."""
    module = parse_module(HEAD + text + OUT.format(shape) + TAIL, {"party": DIALECT})
    FuseLocal().run(module)
    verify(module, DIALECT)
    return [
        [op.name.removeprefix("party.") for op in fused.body.ops]
        for fused in module.main.walk("party.fused")
        if fused.body is not None
    ]


REFUSALS = {
    "a single op": """\
    %80 = party.neg(%2) : ring64<3>@P0
""",
    "another depth: the message need not wait": """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.transfer(%3) {to = "P0", step = "s"} : ring64<3>@P0
    %80 = party.add(%4, %5) : ring64<3>@P0
""",
    "another lane count": """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.slice(%4) {starts = [0], limits = [2], strides = [1]} : ring64<2>@P0
    %6 = party.neg(%5) : ring64<2>@P0
    %80 = party.pad(%6) {low = [0], high = [1]} : ring64<3>@P0
""",
    "a value that leaves and comes back": """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.reshape(%4) {shape = [3, 1]} : ring64<3x1>@P0
    %6 = party.transpose(%5) {perm = [1, 0]} : ring64<1x3>@P0
    %7 = party.reshape(%6) {shape = [3]} : ring64<3>@P0
    %80 = party.add(%4, %7) : ring64<3>@P0
""",
    "not connected": """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.add_const(%2) {value = 1} : ring64<3>@P0
    %80 = party.concat(%4, %5) {axis = 0} : ring64<6>@P0
""",
    "a draw of another phase": """\
    %4 = party.draw_ring() {key = "P0+P1", stream = 1, phase = "setup", place = "P0", shape = [3]}\
 : ring64<3>@P0
    %80 = party.add(%2, %4) : ring64<3>@P0
""",
    "a draw with two users that are not together": """\
    %4 = party.draw_ring() {key = "P0+P1", stream = 1, place = "P0", shape = [3]} : ring64<3>@P0
    %5 = party.add(%2, %4) : ring64<3>@P0
    %6 = party.transfer(%5) {to = "P1", step = "s"} : ring64<3>@P1
    %7 = party.transfer(%6) {to = "P0", step = "s"} : ring64<3>@P0
    %80 = party.sub(%7, %4) : ring64<3>@P0
""",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_stays_apart(name):
    shape = "6" if name == "not connected" else "3"
    assert regions(REFUSALS[name], shape) == []


def test_a_user_between_the_members_moves_behind_the_region():
    """%5 stands between the members %4 and %6, and needs the region's result."""
    text = """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.transfer(%4) {to = "P1", step = "early"} : ring64<3>@P1
    %6 = party.add_const(%4) {value = 1} : ring64<3>@P0
    %7 = party.transfer(%6) {to = "P1", step = "late"} : ring64<3>@P1
    %80 = party.add(%5, %7) : ring64<3>@P1
"""
    assert regions(text) == [["neg", "add_const"]]


def test_two_stages_make_two_regions():
    text = """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.add_const(%4) {value = 1} : ring64<3>@P0
    %6 = party.reshape(%5) {shape = [3, 1]} : ring64<3x1>@P0
    %7 = party.reshape(%6) {shape = [3]} : ring64<3>@P0
    %8 = party.add(%4, %7) : ring64<3>@P0
    %80 = party.neg(%8) : ring64<3>@P0
"""
    assert regions(text) == [["neg", "add_const"], ["add", "neg"]]


def test_dead_ops_go_first():
    text = """\
    %4 = party.neg(%2) : ring64<3>@P0
    %5 = party.neg(%4) : ring64<3>@P0
    %80 = party.add_const(%2) {value = 1} : ring64<3>@P0
"""
    assert regions(text) == []


def messages(module):
    return sorted((m.source, m.to, m.nbytes, m.depth, m.phase, m.step) for m in module.messages)


@pytest.mark.parametrize("seed", range(40))
def test_meaning_messages_and_rounds_stay(seed):
    before = random_program(seed, 120)
    after = before.clone()
    result = FuseLocal().run(after)
    verify(after, DIALECT)
    inputs, weights = inputs_for(before, seed)
    expected = run(before, weights, inputs, seed=seed, record=True)
    found = run(after, weights, inputs, seed=seed, record=True)
    assert found.outputs.keys() == expected.outputs.keys()
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array)
    # Dead messages go; of the others every byte on the wire is the same.
    live = before.clone()
    live.main.remove_dead()
    static = schedule(live)
    assert messages(schedule(after)) == messages(static)
    for phase in (SETUP, ONLINE):
        assert schedule(after).rounds(phase) == static.rounds(phase)
    wire = {(m.step, m.to): np.array(m.payload) for m in expected.messages}
    for m in found.messages:
        np.testing.assert_array_equal(wire[m.step, m.to], np.array(m.payload))
    # What came out is a program, and nothing is left to fuse in it.
    assert print_module(parse(emit(after))) == print_module(after)
    assert result.modified == (print_module(after) != print_module(before))
    again = after.clone()
    assert not FuseLocal().run(again).modified
    other = before.clone()
    FuseLocal().run(other)
    assert print_module(other) == print_module(after)


def test_regions_are_elementwise_of_one_place_phase_and_depth():
    module = every_op()
    assert FuseLocal().run(module).modified
    verify(module, DIALECT)
    assert print_module(parse(emit(module))) == print_module(module)
    count = 0
    for step in schedule(module).steps:
        if step.op.body is not None and len(step.op.body.ops) > 1:
            count += 1
            for op in step.op.body.ops:
                definition = op.definition
                assert issubclass(definition, PartyOperation)
                assert definition.elementwise
                assert place_of(op.result.type) == step.place
    assert count == 4
