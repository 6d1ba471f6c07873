"""Rounds and link loads of whole networks: what the choice of roles and the slices are for."""

import functools

import numpy as np
import pytest

from benchmarks.models import NETWORKS
from benchmarks.resnet import resnet
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.schedule import schedule
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.passes.split_lanes import SplitLanes
from mpcc.protocols import Ref, Rep3, lower_program
from tests.protocols.support import Program, execute

KIB = 1024
FORMATS = FormatOptions(disclose="none")


def tensor_program(data):
    return Manager(pipeline.TENSOR).run(import_onnx(data).module)


@functools.cache
def network(name, batch):
    """Values of at most 20 bits, as calibration finds about here."""
    module = tensor_program(NETWORKS[name](batch).serialized())
    phi = declared_phi(module, FORMATS)
    ranges = tuple((i, 20 - phi.frac) for i, _ in phi.ranges)
    phi = Phi(**{**vars(phi), "ranges": ranges, "clamps": ()})
    return Manager(pipeline.to_secure(phi, FORMATS)).run(module)


@functools.cache
def resnet_program(layers, size, width=None):
    module = tensor_program(resnet(layers, size))
    phi = declared_phi(module, FORMATS)
    if width is not None:
        ranges = tuple((i, width - phi.frac) for i, _ in phi.ranges)
        phi = Phi(**{**vars(phi), "ranges": ranges, "clamps": ()})
    return Manager(pipeline.to_secure(phi, FORMATS)).run(module)


def online(program):
    plan = schedule(lower_program(program, Rep3()).party)
    return plan.rounds("online"), [m for m in plan.messages if m.phase == "online"]


def imbalance(messages):
    """The busiest link between parties over the mean, messages below 1 KiB aside."""
    loads = {f"{a}->{b}": 0 for a in range(3) for b in range(3) if a != b}
    for m in messages:
        if m.link in loads and m.nbytes >= KIB:
            loads[m.link] += m.nbytes
    return 6 * max(loads.values()) / sum(loads.values())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 128])
def test_links_of_networks_are_balanced(name, batch):
    """No link is more than a tenth above the mean.

    A at batch 1 sends 21 KB in all: slices would cost it rounds' worth of time, and save none.
    """
    _, messages = online(network(name, batch))
    if (name, batch) == ("A", 1):
        assert sum(m.nbytes for m in messages) < 36 * KIB
    else:
        assert imbalance(messages) <= 1.1


@pytest.mark.parametrize("size", [32, 64])
def test_links_of_a_residual_network_are_balanced(size):
    assert imbalance(online(resnet_program(26, size))[1]) <= 1.1


@pytest.mark.parametrize(("name", "rounds"), [("A", 13), ("B", 31), ("C", 31)])
def test_rounds_of_networks_at_batch_1(name, rounds):
    """Share 1; every layer 4; each further maximum 3; exact truncation and reveal 4.

    That is 1 + 4 + 4 + 4 for A, and at most 31 for B and C.
    """
    assert online(network(name, 1))[0] <= rounds


def single(kind, lanes, width=16, ring=64):
    p = Program(ring)
    x = p.input(np.zeros(lanes), 8, -1.0, 1.0, width=width)
    if kind == "relu":
        x = p.op("select", p.op("negative", x), x, invert=True, width=width)
    else:
        w = p.weight(np.zeros((8, 8), np.int64), 8, 8)
        x = p.op("reshape", x, shape=(lanes // 8, 8))
        x = p.op("truncate", p.op("matmul", x, w, width=24), amount=8, rounding="exact", width=16)
    p.op("reveal", x, name="y", owner="client")
    return p.module


def test_rounds_of_single_operators():
    """One round less than the steps have.

    A ReLU hides one in the sharing; a product the exchange of its truncation in the sharing, and
    the last message of the bit in the reveal.
    """
    assert online(single("relu", 64))[0] == 5
    assert online(single("matmul", 64))[0] == 5


def test_independent_branches_share_their_rounds():
    """Ten ReLUs side by side take the rounds of one."""
    p = Program()
    x = p.input(np.zeros(64), 8, -1.0, 1.0, width=16)
    for i in range(10):
        part = p.op("slice", x, starts=(6 * i,), limits=(6 * i + 6,), strides=(1,))
        y = p.op("select", p.op("negative", part), part, invert=True, width=16)
        p.op("reveal", y, name=f"y{i}", owner="client")
    assert online(p.module)[0] <= 6


@pytest.mark.parametrize(("ring", "most"), [(64, 43.2), (32, 27.2)])
def test_bytes_of_a_relu(ring, most):
    costs = lower_program(single("relu", 512, ring=ring), Rep3()).costs
    relu = [c.cost for c in costs if c.name in ("secure.negative", "secure.select")]
    assert sum(c.total_bytes for c in relu) <= most * 512
    assert sum(c.rounds for c in relu) <= 4


def test_a_relu_of_any_width_takes_five_rounds():
    for ring in (32, 64):
        p = Program(ring)
        for width in range(1, ring - 1):
            x = p.weight(np.zeros(512, np.int64), 0, width)
            p.op("select", p.op("negative", x), x, invert=True, width=width)
        relus: dict[str, int] = {}
        for entry in lower_program(p.module, Rep3()).costs:
            relus[entry.name] = max(relus.get(entry.name, 0), entry.cost.rounds)
        assert relus["secure.negative"] + relus["secure.select"] <= 5


def test_resnet_50_sends_what_the_formulas_say():
    """At 224 x 224 and widths of 28 bits, at most 290 MB per party."""
    _, messages = online(resnet_program(50, 224, 28))
    sent = {f"P{i}": 0 for i in range(3)}
    for m in messages:
        if m.source in sent:
            sent[m.source] += m.nbytes
    assert max(sent.values()) <= 290e6


@pytest.mark.parametrize("protocol", [Rep3(), Ref()], ids=lambda p: p.name)
@pytest.mark.parametrize("shape", [(4, 3, 10, 10), (1, 7, 14, 14), (1100,)])
def test_slices_compute_the_same(protocol, shape):
    """Exact values of a program in slices are those of the whole."""
    rng = np.random.default_rng(3)

    def build():
        p = Program()
        x = p.input(rng.uniform(-1, 1, shape), 10, -1.0, 1.0, width=14)
        y = p.op("truncate", x, amount=3, rounding="exact", width=11)
        y = p.op("select", p.op("negative", y), y, invert=True, width=11)
        y = p.op("clamp", y, lo=-20, hi=90, width=7)
        p.op("reveal", y, name="y", owner="client")
        return p

    program = build()
    whole = execute(program, protocol).run.outputs["y"]
    result = SplitLanes().run(program.module)
    assert result.modified
    verify(result.module, secure.DIALECT)
    np.testing.assert_array_equal(execute(program, protocol).run.outputs["y"], whole)


def test_what_is_lowered_without_slices_is_the_same_but_for_slices():
    """The pass is in the pipeline, after the lowering."""
    module = tensor_program(NETWORKS["C"](1).serialized())
    phi = declared_phi(module, FORMATS)
    program = Manager(pipeline.to_secure(phi, FORMATS)).run(module)
    assert len(program.main.ops) > len(build_secure(module, phi, FORMATS).main.ops)
