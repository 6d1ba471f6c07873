"""What an error says would help where no formats keep the budget, and that it does help."""

import re
from typing import Any

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.passes.analyse import analyse
from tests.passes.secure_nets import Net, random_net
from tests.passes.test_rings import tall

RANGE = {"x": (-1.0, 1.0)}


def cancelling():
    """Rotations: the sizes that a proof adds up never come together.

    Of more numbers than affine forms are kept for, which would see it.
    """
    net = Net(np.random.default_rng(1))
    x = net.input("x", 1, 4)
    rows = np.random.default_rng(2).standard_normal((320, 320)) / 18
    orthogonal, _ = np.linalg.qr(rows)
    x = net.op(tensor.MatMul, [x, net.weight(orthogonal[:4])], "first")
    for i in range(5):
        x = net.op(tensor.MatMul, [x, net.weight(orthogonal)], f"turn{i}")
    net.output(net.op(tensor.MatMul, [x, net.weight(orthogonal[:, :2])], "last"))
    return net


def refused(net, options, calibration=()):
    with pytest.raises(MpccError) as caught:
        analyse(net.module, net.constants, calibration, options)
    return caught.value.diagnostics[0]


def advice(problem):
    """(what does, what does not), as options."""
    good, _, bad = problem.fix.partition("tried, but not enough: ")
    return good, bad


def test_the_ring_and_the_error_that_do():
    net = tall(2.0**4)
    options = FormatOptions(ring=32, input_ranges=RANGE, max_error=2.0**-4)
    problem = refused(net, options)
    assert problem.code == "E-range-error"
    assert "5 + 11 fraction bits, the most that fit 32 bits" in problem.what
    good, bad = advice(problem)
    assert "--ring auto (" in good
    assert "--ring" not in bad
    (error,) = re.findall(r"--max-error ([0-9.e-]+)", good)
    ways: list[dict[str, Any]] = [
        {"ring": 32, "max_error": float(error)},
        {"max_error": options.max_error},
    ]
    for more in ways:
        analyse(net.module, net.constants, (), FormatOptions(input_ranges=RANGE, **more))


def test_what_was_reached_is_that_of_the_finest_formats():
    net = random_net(2)
    problem = refused(net, FormatOptions(input_ranges=RANGE, max_error=2.0**-29))
    assert "27 + 28 fraction bits" in problem.what or "28 + 28 fraction bits" in problem.what
    (promised,) = re.findall(r"about ([0-9.e-]+) can be promised", problem.what)
    good, bad = advice(problem)
    assert "--max-error" in good
    assert "--calibrate DATA.npz" in bad
    analysis = analyse(
        net.module, net.constants, (), FormatOptions(input_ranges=RANGE, max_error=2.0**-18)
    )
    assert float(promised) < 2.0**-18
    last = analysis.private["tried"][-1]
    assert last["error"] <= 2.0**-18
    assert (last["frac"], last["weight_frac"]) == (analysis.phi.frac, analysis.phi.weight_frac)


def test_calibration_is_proposed_where_observed_ranges_do():
    net = cancelling()
    options = FormatOptions(input_ranges=RANGE, max_error=2.0**-7, ring=32)
    good, bad = advice(refused(net, options))
    assert "--calibrate DATA.npz (" in good
    assert "with random inputs as data" in good
    data = [net.sample(seed=i) for i in range(2)]
    analyse(net.module, net.constants, data, options)
    assert "--calibrate" not in bad


def test_a_narrower_input_range_is_found():
    net = tall(1.0)
    options = FormatOptions(input_ranges={"x": (-(2.0**24), 2.0**24)}, max_error=2.0**-4, ring=32)
    good, _ = advice(refused(net, options))
    ((lo, hi),) = re.findall(r"--input-range x=([0-9.e+-]+):([0-9.e+-]+) \(", good)
    narrow = FormatOptions(input_ranges={"x": (float(lo), float(hi))}, max_error=2.0**-4, ring=32)
    analyse(net.module, net.constants, (), narrow)


def test_nothing_is_said_of_inputs_that_data_show():
    net = random_net(2)
    data = [net.sample(seed=i) for i in range(2)]
    problem = refused(net, FormatOptions(max_error=2.0**-29), data)
    assert "--input-range" not in problem.fix
    assert "--calibrate" not in problem.fix


def test_ranges_that_do_not_fit_get_advice_too():
    net = tall(2.0**10)
    options = FormatOptions(input_ranges=RANGE, ring=32, clamp_bits=30, max_error=2.0**-4)
    problem = refused(net, options)
    assert problem.code == "E-range-fit"
    assert "--ring auto (" in advice(problem)[0]
