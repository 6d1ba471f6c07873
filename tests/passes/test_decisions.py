"""Errors of models that decide: what is too close to tell is no error, everything else is."""

from dataclasses import replace

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.interp import fixed
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.analysis.ranges import Ranges
from mpcc.passes.declared_formats import analyse_declared, declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from tests.ir.samples import Maker


def close():
    """[x / 3 < c], [x / 3] rounded down, and the larger of two that are nearly equal."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(1, 2))
    third = o("scale", x, factor=1 / 3)
    c = o("weight", name="c", shape=(1, 2))
    o("output", o("less", third, c), name="less", owner="client")
    o("output", o("floor", third), name="floor", owner="client")
    o("output", o("argmax", third, axis=1, keepdims=False), name="best", owner="client")
    scores, positions = o.module.main.append(
        o.dialect.operations["tensor.topk"], [third], {"k": 2, "axis": 1}
    ).results
    o("output", scores, name="scores", owner="client")
    o("output", positions, name="positions", owner="client")
    return o.module


# Every decision is within 1e-7.
CLOSE = {"x": np.array([[3.0 - 1e-7, 3.0]])}
CONSTANTS = {"c": np.array([[1.0 - 1e-7, 1.0]], np.float32)}


@pytest.mark.parametrize("policy", ["proved", "observed"])
def test_what_is_too_close_to_tell_is_no_error(policy):
    options = FormatOptions(policy=policy, input_ranges={"x": (-4.0, 4.0)})
    found = analyse(close(), CONSTANTS, [CLOSE] * 3, options)
    assert found.private["measured_error"]["less"] == 0.0
    assert found.private["measured_error"]["best"] == 0.0
    assert found.private["measured_error"]["floor"] == 0.0
    assert found.private["measured_error"]["scores"] < options.max_error
    assert set(found.private["measured_error"]) == {"less", "floor", "best", "scores", "positions"}


def test_a_decision_against_a_clear_margin_counts():
    """A third with 8 fraction bits is 85/256, and a third of 3.001 less than 1 by 0.0035."""
    ranges = ((0, 4), (1, 2))
    phi = Phi("proved", 64, 16, 8, 1, (), ranges, ())
    sample = {"x": np.array([[3.001, -3.0]])}
    # The real third is above 1 by 0.00033.
    for max_error, counts in ((2.0**-7, False), (2.0**-12, True)):
        options = FormatOptions(max_error=max_error)
        program = Program(close(), CONSTANTS, phi, options)
        run = program.run(sample, 0)
        want = program.reference(sample, run)
        assert run.outputs["floor"][0, 0] == 0.0
        assert (want["floor"][0, 0] == 1.0) == counts
        assert program.decides


@pytest.mark.parametrize("max_error", [2.0**-7, 1e-4])
@pytest.mark.parametrize("disclose", ["per-tensor", "none"])
def test_what_is_compared_keeps_the_budget_too(max_error, disclose):
    """Without a close decision among the samples, every format would do for the decisions alone."""
    rng = np.random.default_rng(1)
    o = Maker("tensor")
    x = o("input", name="x", shape=(4, 5))
    w = o("weight", name="w", shape=(5, 5))
    scores = o("matmul", x, w)
    o("output", o("argmax", scores, axis=1, keepdims=False), name="best", owner="client")
    constants = {"w": rng.normal(size=(5, 5)).astype(np.float32)}
    options = FormatOptions(max_error=max_error, input_ranges={"x": (-4, 4)}, disclose=disclose)
    if disclose == "none" and max_error == 1e-4:
        # No more than 16 bits are tried there, and 8 would decide at random.
        with pytest.raises(MpccError, match="E-range-error"):
            analyse_declared(o.module, constants, (), replace(options, fraction_bits=8))
        return
    choose = analyse_declared if disclose == "none" else analyse
    phi = choose(o.module, constants, (), options).phi
    assert 2.0**-phi.frac < max_error
    program = Program(o.module, constants, phi, options)
    for seed in range(20):
        sample = {"x": rng.uniform(-1, 1, (4, 5))}
        real_scores = sample["x"] @ constants["w"]
        best = real_scores.argmax(axis=1)
        margin = np.sort(real_scores, axis=1)
        run = program.run(sample, seed)
        clear = margin[:, -1] - margin[:, -2] > 2 * max_error
        assert (run.outputs["best"][clear] == best[clear]).all()
        program.reference(sample, run)
        assert 0 < program.compared_error <= 1


def test_errors_do_not_grow_in_a_network():
    """A compare-exchange passes the larger error on, however many there are."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(20,))
    o("output", o("topk", x, k=10, axis=0), name="y", owner="client")
    program = build_secure(o.module, Phi("proved", 64, 12, 12, 1, (), ((0, 4),), ()))
    # Encoding is half a unit; one exact truncation tells values from positions.
    assert bound(program, {})["y"].error <= 1.6 * 2.0**-12


def test_declared_formats():
    """Formats from the architecture alone have room for every decision, and the error is seen."""
    options = FormatOptions(disclose="none", input_ranges={"x": (-4.0, 4.0)})
    found = analyse_declared(close(), CONSTANTS, [CLOSE], options)
    assert found.private["measured_error"]["floor"] == 0.0
    assert found.phi == declared_phi(close(), options)


@pytest.mark.parametrize("moved", [False, True])
def test_a_position_needs_room_beside_its_value(moved, monkeypatch):
    """Under proved ranges, what feeds an argmax is clamped where its position would not fit."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(1, 5))
    for _ in range(3):
        x = o("scale", x, factor=65535.0)
    x = o("reshape", o("relu", x), shape=(5, 1)) if moved else x
    o("output", o("argmax", x, axis=0 if moved else 1, keepdims=False), name="y", owner="client")
    options = FormatOptions(policy="proved", input_ranges={"x": (-5.0, 5.0)})
    phi = analyse(o.module, {}, (), options).phi
    assert phi.clamps
    program = build_secure(o.module, phi, options)
    sample = {"x": np.array([[0.0, -1.5, 2.0**-8, 0.0, -5.0]])}
    for rounding in ("floor", "worst"):
        assert fixed.run(program, {}, sample, rounding)["y"] == [2.0]
    monkeypatch.setattr("mpcc.passes.analysis.ranges._extra_bits", lambda ops: {})
    # Otherwise the search would look for formats that have the room.
    monkeypatch.setattr(Ranges, "check_forms", lambda self, phi: None)
    with pytest.raises(MpccError, match="E-lower-format"):
        analyse(o.module, {}, (), options)
