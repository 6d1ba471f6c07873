"""Local work, speeds fitted to times, and the predicted course of a run."""

import json

import numpy as np
import pytest

from mpcc.cost import PROFILES, Link, Profile
from mpcc.cost.speed import BUILT_IN, Speeds, cache_file, fit, load
from mpcc.cost.timeline import Workload, timeline
from mpcc.cost.work import UNITS, parts_of, work_of
from mpcc.errors import MpccError
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.schedule import ONLINE
from mpcc.ir.text import parse_module
from mpcc.passes.fuse_local import FuseLocal
from tests.emit.programs import random_program
from tests.test_cost import PROGRAM


def module():
    return parse_module(PROGRAM, {"party": DIALECT})


def test_work_of_a_program_counted_by_hand():
    ops = {op.name: op for op in module().main.ops}
    # Two pairs of 2x2 matrices: 2 * 4 products of length 2; four operands and a result of 32 bytes.
    assert work_of(ops["party.matmul"]) == {"op": 1.0, "product64": 16.0, "operand": 160.0}
    assert work_of(ops["party.bit_slice"]) == {"op": 1.0, "transposed": 32.0}
    assert work_of(ops["party.transfer"]) == {}


@pytest.mark.parametrize("seed", range(5))
def test_fusing_moves_work_into_regions_and_keeps_it(seed):
    plain = random_program(seed)
    plain.main.remove_dead()
    fused = FuseLocal().run(plain.clone()).module

    def totals(program):
        found = dict.fromkeys(UNITS, 0.0)
        for op in program.main.ops:
            for _, work in parts_of(op):
                for unit, amount in work.items():
                    found[unit] += amount
        # How many ops there are is what fusing changes.
        return {unit: amount for unit, amount in found.items() if unit not in ("op", "step")}

    assert totals(fused) == pytest.approx(totals(plain))
    assert any(op.body is not None for op in fused.main.ops)


def test_a_fit_finds_the_speeds_that_made_the_times():
    rng = np.random.default_rng(0)
    truth = {"op": 1e-6, "word": 5e-10, "copied": 2e-11}
    works = [
        {"op": 1.0, "word": float(rng.integers(1, 1 << 20)), "copied": float(rng.integers(1 << 24))}
        for _ in range(60)
    ]
    samples = [(w, sum(truth[u] * n for u, n in w.items())) for w in works]
    assert fit(samples) == pytest.approx(truth, rel=1e-3)


def test_a_fit_gives_no_negative_time():
    # The second unit would have to be negative to explain these.
    found = fit([({"op": 1.0, "word": 1.0}, 1.0), ({"op": 1.0, "word": 2.0}, 0.5)])
    assert min(found.values()) >= 0.0


def test_speeds_are_kept_per_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load() is BUILT_IN
    made = Speeds("some processor", {"word": 1e-9})
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(made.to_json())
    assert load() == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format": 2, "processor": "x", "seconds": {}}),
        json.dumps({"format": 1, "processor": "x", "seconds": {"unknown": 1e-9}}),
        json.dumps({"format": 1, "processor": "x", "seconds": {"word": -1e-9}}),
        json.dumps({"format": 1, "processor": "x", "seconds": {"word": "fast"}}),
        "[" * 100_000,
    ],
)
def test_damaged_speeds_are_refused_with_the_way_out(text):
    with pytest.raises(MpccError, match="E-cost-speeds") as caught:
        Speeds.from_json(text)
    assert "mpcc bench --calibrate" in caught.value.diagnostics[0].fix


def test_without_work_a_run_takes_the_latencies_of_its_rounds():
    # Three rounds between the parties and to the client follow the start, which is a message too.
    found = timeline(Workload.of(module()), Speeds("", {}), Profile("p", Link(1.0, float("inf"))))
    assert found.seconds == pytest.approx(4.0)
    assert found.rounds[1:] == pytest.approx([2.0, 3.0, 4.0])
    assert found.busy == {"P0": 0.0, "P1": 0.0, "P2": 0.0}


def test_a_link_carries_one_message_after_the_other():
    # 0->1 carries 3 bytes, 1->0 32, then 0->client 32: a byte takes a second.
    slow = Profile("p", Link(0.0, 8.0))
    found = timeline(Workload.of(module()), Speeds("", {}), slow)
    assert found.seconds == pytest.approx(3 + 32 + 32)


def test_work_adds_up_along_the_chain_and_per_party():
    speeds = Speeds("", {"op": 1.0})
    found = timeline(Workload.of(module()), speeds, PROFILES["none"])
    # P0: matmul, bit_slice, add; P1: from_bits; all in one chain.
    assert found.busy == {"P0": 3.0, "P1": 1.0, "P2": 0.0}
    assert found.seconds == pytest.approx(4.0)
    assert found.layers == {"fc_0": 3.0}


def test_fewer_cores_are_never_faster():
    program = random_program(3)
    workload, speeds = Workload.of(program), Speeds("", {"op": 1e-3, "message": 1e-3})
    times = [timeline(workload, speeds, PROFILES["lan"], cores).seconds for cores in (1, 2, 6)]
    assert times == sorted(times, reverse=True)
    work = sum(
        speeds.time(w)
        for step, w in zip(workload.plan.steps, workload.works, strict=True)
        if step.phase == ONLINE and step.place in ("P0", "P1", "P2")
    )
    assert times[0] >= work
