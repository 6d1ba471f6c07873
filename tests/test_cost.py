"""Predictions against hand-counted programs and the interpreter; profiles; reports."""

import json
import math

import pytest

from mpcc.cost import PROFILES, Link, Profile, count, predict, profile
from mpcc.cost.report import format_bytes, format_seconds
from mpcc.errors import MpccError
from mpcc.ir.core import Function, Op
from mpcc.ir.interp.party import run
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.schedule import ONLINE, SETUP, schedule
from mpcc.ir.text import parse_module
from mpcc.ir.types import RingType
from mpcc.passes.fuse_local import FuseLocal
from tests.emit.programs import inputs_for, random_program

PROGRAM = """\
module party {
  func @main() {
    %0 = party.weight() {name = "w", shape = [2, 2], place = "model"} : ring64<2x2>@model
    %1 = party.transfer(%0) {to = "P0", step = "w_0/share/a"} : ring64<2x2>@P0 loc("w_0")
    %2 = party.transfer(%1) {to = "P1", step = "w_0/share/b"} : ring64<2x2>@P1 loc("w_0")
    %3 = party.input() {name = "x", shape = [2, 2], place = "client"} : clear<2x2xf32>@client
    %4 = party.encode(%3) {frac = 8, lo = -1.0, hi = 1.0} : ring64<2x2>@client
    %5 = party.transfer(%4) {to = "P0", step = "x_0/share/a"} : ring64<2x2>@P0 loc("x_0")
    %6 = party.matmul(%5, %1, %5, %1) : ring64<2x2>@P0 loc("fc_0")
    %7 = party.bit_slice(%6) {planes = 3} : bits<4x3>@P0 loc("fc_0")
    %8 = party.transfer(%7) {to = "P1", step = "fc_0/truncate/mask"} : bits<4x3>@P1 loc("fc_0")
    %9 = party.from_bits(%8) {shape = [2, 2]} : ring64<2x2>@P1 loc("fc_0")
    %10 = party.transfer(%9) {to = "P0", step = "fc_0/reshare/x"} : ring64<2x2>@P0 loc("fc_0")
    %11 = party.add(%10, %6) : ring64<2x2>@P0 loc("fc_0")
    %12 = party.transfer(%11) {to = "client", step = "out_0/open"} : ring64<2x2>@client loc("out_0")
    %13 = party.transfer(%9) {to = "client", step = "out_0/open"} : ring64<2x2>@client loc("out_0")
    %14 = party.add(%12, %13) : ring64<2x2>@client
    %15 = party.decode(%14) {frac = 16} : clear<2x2xf32>@client
    party.output(%15) {name = "y"}
  }
}
"""


def module():
    return parse_module(PROGRAM, {"party": DIALECT})


def test_phases_depths_and_order():
    plan = schedule(module())
    found = [(m.id, m.link, m.nbytes, m.phase, m.depth, m.step) for m in plan.messages]
    assert found == [
        (0, "model->0", 32, SETUP, 1, "w_0/share/a"),
        (1, "0->1", 32, SETUP, 2, "w_0/share/b"),
        (2, "client->0", 32, ONLINE, 1, "x_0/share/a"),
        (3, "0->1", 3, ONLINE, 2, "fc_0/truncate/mask"),
        (4, "1->0", 32, ONLINE, 3, "fc_0/reshare/x"),
        (5, "0->client", 32, ONLINE, 4, "out_0/open"),
        (6, "1->client", 32, ONLINE, 3, "out_0/open"),
    ]
    assert (plan.rounds(ONLINE), plan.rounds(SETUP)) == (4, 2)
    # Setup first, then by depth; a transfer stands at its receiver.
    assert plan.places == {
        "P0": (1, 5, 6, 7, 10, 11),
        "P1": (2, 8, 9),
        "client": (3, 4, 13, 12, 14, 15, 16),
        "model": (0,),
    }
    # A product of a setup and an online value is online, at the online value's depth.
    assert (plan.steps[6].phase, plan.steps[6].depth) == (ONLINE, 1)


DRAW, OTHER, THIRD = (
    f'party.draw_ring() {{key = "P0+P1", stream = {stream}, place = "P0", shape = [1]'
    for stream in (1, 2, 3)
)


def parsed(body):
    source = f"module party {{\n  func @main() {{\n{body}  }}\n}}\n"
    return parse_module(source, {"party": DIALECT})


def test_a_region_of_a_run_takes_no_key_of_the_session():
    """An engine holds the keys of one phase at a time; region by region, either phase is fine."""
    body = f"""\
    %0 = {DRAW}, phase = "setup"}} : ring64<1>@P0
    %1 = {OTHER}}} : ring64<1>@P0
    %2 = party.fused(%PHASE) body(%3: ring64<1>@P0) {{
      %4 = {THIRD}, phase = "setup"}} : ring64<1>@P0
      %5 = party.add(%3, %4) : ring64<1>@P0
      return %5
    }} : ring64<1>@P0 loc("somewhere")
"""
    assert schedule(parsed(body.replace("%PHASE", "%0"))).steps[2].phase == SETUP
    with pytest.raises(MpccError, match=r"op 2 party\.fused \(from somewhere\)") as caught:
        schedule(parsed(body.replace("%PHASE", "%1")))
    assert caught.value.code == "E-schedule-phase"


def test_a_stream_is_drawn_once_at_a_place_and_as_one_type():
    def draws(second):
        return f"    %0 = {DRAW}}} : ring64<1>@P0\n    %1 = {second}\n"

    again = f"{DRAW}}} : ring64<1>@P0"
    other_type = f"{DRAW}, ring = 32}} : ring32<1>@P0"
    for second, what in ((again, "twice at P0"), (other_type, "two types")):
        with pytest.raises(MpccError, match=what) as caught:
            schedule(parsed(draws(second)))
        assert caught.value.code == "E-schedule-stream"
    elsewhere = again.replace('place = "P0"', 'place = "P1"').replace("@P0", "@P1")
    assert len(schedule(parsed(draws(elsewhere))).steps) == 2


def mixed_places():
    """A program whose ops do not agree on a place; no reader and no builder gives one."""
    module = parsed(f"""\
    %0 = {DRAW}}} : ring64<1>@P0
    %1 = {OTHER}}} : ring64<1>@P0
    %2 = party.add(%0, %1) : ring64<1>@P0 loc("somewhere")
""")
    module.main.ops[1].result.type = RingType((1,), 64, "P1")
    return module


def test_schedule_refuses_an_op_at_two_places():
    with pytest.raises(MpccError, match=r"op 2 party\.add \(from somewhere\)") as caught:
        schedule(mixed_places())
    assert caught.value.code == "E-schedule-place"


def test_an_operation_with_a_bad_place_does_not_hide_others():
    module = mixed_places()
    module.main.ops.append(Op(DIALECT.operations["party.fused"], (), {}, (), body=Function("body")))
    with pytest.raises(MpccError, match="not: none") as caught:
        schedule(module)
    assert len(caught.value.diagnostics) == 2


def test_figures_of_a_program():
    cost = count(module())
    assert cost.online.to_json() == {
        "rounds": 4,
        "messages": 5,
        "bytes_sent": {"0->1": 3, "0->client": 32, "1->0": 32, "1->client": 32, "client->0": 32},
    }
    assert cost.setup.bytes_sent == {"0->1": 32, "model->0": 32}
    layers = {layer.name: layer for layer in cost.layers}
    assert list(layers) == ["w_0", "x_0", "fc_0", "out_0"]
    fc = layers["fc_0"]
    assert (fc.online.rounds, fc.online.bytes_sent) == (2, {"0->1": 3, "1->0": 32})
    assert fc.steps == {"truncate": 3, "reshare": 32}
    assert fc.macs == 2 * 4 * 2
    assert (layers["w_0"].setup.rounds, layers["w_0"].online.rounds) == (2, 0)
    assert layers["out_0"].online.rounds == 1


def test_time_of_a_program():
    """Rounds 2, 3, 4 are the parties'; round 1 is the client's sharing."""
    slow = Profile("p", Link(0.5, 8.0), {"1->client": Link(0.5, 80.0), "0->1": Link(9.0, 8.0)})
    seconds = count(module()).seconds(slow)
    assert seconds.sharing == 0.5 + 32
    # Round 3 has 1->0 (32.5 s) beside 1->client (3.7 s); they do not add up.
    assert seconds.online == (9 + 3) + (0.5 + 32) + (0.5 + 32)
    assert seconds.setup == (0.5 + 32) + (9 + 32)
    assert count(module()).seconds(PROFILES["none"]).online == 0


@pytest.mark.parametrize("seed", range(8))
def test_prediction_equals_the_interpreter(seed):
    program = random_program(seed, 120)
    program.main.remove_dead()
    cost = count(program)
    inputs, weights = inputs_for(program, seed)
    measured = run(program, weights, inputs, seed=seed).messages
    for phase, predicted in ((ONLINE, cost.online), (SETUP, cost.setup)):
        found = [m for m in measured if m.phase == phase]
        assert predicted.rounds == max((m.depth for m in found), default=0)
        assert predicted.messages == len(found)
        sent: dict[str, int] = {}
        for m in found:
            sent[m.link] = sent.get(m.link, 0) + m.nbytes
        assert predicted.bytes_sent == sent
        # Layers share out everything.
        per_layer = [
            getattr(layer, "online" if phase == ONLINE else "setup") for layer in cost.layers
        ]
        assert sum(p.messages for p in per_layer) == predicted.messages
        assert sum(p.total_bytes for p in per_layer) == predicted.total_bytes
        traffic = cost.traffic[phase] + (cost.traffic["sharing"] if phase == ONLINE else ())
        assert sum(sum(links.values()) for links in traffic) == predicted.total_bytes
    # Fusion moves no message to another layer and no round.
    FuseLocal().run(program)
    fused = count(program)
    assert {x.name: (x.online, x.setup, x.steps) for x in fused.layers} == {
        x.name: (x.online, x.setup, x.steps) for x in cost.layers
    }
    assert fused.traffic == cost.traffic


# --- profiles ------------------------------------------------------------------------------------


def test_built_in_profiles():
    assert profile("lan").default == Link(0.0001, 10e9)
    assert profile("wan").default == Link(0.02, 352e6)
    assert profile("none").default == Link(0.0, math.inf)
    assert "352 Mbit/s and 20 ms" in profile("wan").describe()
    edge = profile("edge")
    assert edge.link("0->1") == Link(0.005, 1e9)
    assert edge.link("model->1") == edge.link("client->2") == Link(0.015, 20e6)
    assert edge.link("0->client") == Link(0.015, 100e6)


def test_a_profile_is_written_and_read_again(tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(PROFILES["edge"].to_toml("two\nlines"))
    assert path.read_text().startswith("# two\n# lines\nlatency_ms = 5\nbandwidth_mbit = 1000\n")
    found = profile(str(path))
    assert (found.default, found.links) == (PROFILES["edge"].default, PROFILES["edge"].links)
    with pytest.raises(ValueError, match="without a limit"):
        PROFILES["none"].to_toml()


def test_profile_from_a_file(tmp_path):
    path = tmp_path / "office.toml"
    path.write_text(
        'latency_ms = 5\nbandwidth_mbit = 100.0\n[links."0->1"]\nlatency_ms = 0\n'
        '[links."client->2"]\nbandwidth_mbit = 1\n'
    )
    found = profile(str(path))
    assert found.name == "office.toml"
    assert found.default == Link(0.005, 100e6)
    assert found.link("0->1") == Link(0.0, 100e6)
    assert found.link("client->2") == Link(0.005, 1e6)
    assert found.link("1->0") == found.default
    assert "2 links differ" in found.describe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency_ms = ", "not TOML"),
        ("latency_ms = 1", "bandwidth_mbit must be"),
        ("latency_ms = -1\nbandwidth_mbit = 1", "latency_ms must be"),
        ("latency_ms = 1\nbandwidth_mbit = 0", "bandwidth_mbit must be"),
        ("latency_ms = nan\nbandwidth_mbit = inf", "latency_ms must be"),
        ("latency_ms = true\nbandwidth_mbit = 1", "latency_ms must be"),
        ("latency_ms = 1\nbandwidth_mbit = 1\nspeed = 3", "unknown key speed"),
        ('latency_ms = 1\nbandwidth_mbit = 1\n[links."0->0"]\n', "'0->0' is not a link"),
        ("latency_ms = 1\nbandwidth_mbit = 1\nlinks = 3", "is not a link"),
    ],
)
def test_bad_profiles(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(MpccError, match=message) as caught:
        profile(str(path))
    assert caught.value.code == "E-network-profile"


def test_unknown_profiles(tmp_path):
    for name in ("fast", str(tmp_path / "none.toml")):
        with pytest.raises(MpccError, match="E-network-profile"):
            profile(name)


# --- reports -------------------------------------------------------------------------------------


def test_json_report():
    report = predict(module(), profile("none"))
    found = json.loads(report.json())
    assert found == json.loads(json.dumps(report.to_json()))
    assert found["rounds"] == 4
    assert found["bytes_sent"]["0->1"] == 3
    assert set(found["network_seconds"]) == {"lan", "wan", "none"}
    assert [op["name"] for op in found["ops"]] == ["w_0", "x_0", "fc_0", "out_0"]
    assert found["ops"][2]["bytes_sent"] == {"0->1": 3, "1->0": 32}
    assert found["ops"][2]["step_rounds"] == {"truncate": 1, "reshare": 1}
    # The parts of a run's time are all of it but its start.
    for name, seconds in found["seconds"].items():
        parts = sum(op["seconds"][name] for op in found["ops"])
        assert seconds / 2 < parts < seconds
    empty = parse_module("module party {\n  func @main() {\n  }\n}\n", {"party": DIALECT})
    assert predict(empty).to_json()["bytes_sent"] == {}


def test_units():
    assert [format_bytes(n) for n in (0, 999, 1000, 999_499, 999_500, 2.5e9, 3e13)] == [
        "0 B", "999 B", "1 kB", "999 kB", "1 MB", "2.5 GB", "30 TB",
    ]  # fmt: skip
    assert [format_seconds(s) for s in (0, 2.5e-5, 0.5, 12.25)] == [
        "0 s", "0.025 ms", "500 ms", "12.2 s",
    ]  # fmt: skip
