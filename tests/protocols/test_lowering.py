"""The lowering as a whole: labels, phases, determinism, roles, streams, refusals, dead code."""

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.define import Operation
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.schedule import schedule
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import BitType
from mpcc.protocols import Ref, Rep3, lower_program, protocol_named
from mpcc.protocols.base import Builder, Coin, Cost, component, key_name
from mpcc.protocols.roles import LinkBalance
from tests.protocols.support import Program, execute


def network(ring=64, seed=0):
    """Input -> conv -> bias -> truncate -> relu -> matmul -> exact truncate -> reveal."""
    rng = np.random.default_rng(seed)
    p = Program(ring)
    x = p.input(rng.uniform(-1, 1, (1, 2, 6, 6)), 10, -1.0, 1.0)
    w = p.weight(rng.integers(-1000, 1000, (3, 2, 3, 3)), 10, 10)
    b = p.weight(rng.integers(-(2**19), 2**19, (3,)), 20, 19)
    conv = p.op(
        "conv", x, w, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), width=26, loc="conv_0"
    )
    bias = p.op("broadcast", b, shape=(1, 3, 6, 6), dims=(1,), loc="conv_0")
    total = p.op("add", conv, bias, width=26, loc="conv_0")
    y = p.op("truncate", total, amount=10, width=17, loc="conv_0")
    bit = p.op("negative", y, loc="relu_0")
    y = p.op("select", bit, y, invert=True, width=17, loc="relu_0")
    y = p.op("reshape", y, shape=(1, 108), loc="flatten_0")
    m = p.weight(rng.integers(-100, 100, (108, 4)), 10, 7)
    y = p.op("matmul", y, m, width=28, loc="gemm_0")
    y = p.op("truncate", y, amount=10, rounding="exact", width=18, loc="gemm_0")
    p.op("reveal", y, name="scores", owner="client", loc="scores")
    return p, y


@pytest.mark.parametrize("protocol", [Rep3(), Ref()], ids=lambda p: p.name)
@pytest.mark.parametrize("ring", [32, 64])
def test_network(protocol, ring):
    p, y = network(ring)
    outcome = execute(p, protocol)
    scores = outcome.run.outputs["scores"]
    np.testing.assert_array_equal(scores, (outcome.reference[y] / 1024.0).astype(np.float32))


def test_text_round_trip():
    module = lower_program(network()[0].module, Rep3()).party
    text = print_module(module)
    assert print_module(parse_module(text, DIALECTS)) == text


def test_rounds_of_the_network():
    """The comparison starts before its truncation ends: truncation and ReLU in 6 rounds at k = 17.

    At most: 1 share; 1 exchange, 3 comparison, 2 select; 1 exchange, 2 carry, 2 bit to ring;
    1 reveal. Fewer where a party that drew its components sends first.
    """
    module = lower_program(network()[0].module, Rep3()).party
    assert schedule(module).rounds("online") <= 1 + 1 + 3 + 2 + 1 + 2 + 2 + 1
    assert schedule(module).rounds("setup") == 1


def test_only_weights_are_shared_in_setup():
    p, _ = network()
    messages = schedule(lower_program(p.module, Rep3()).party).messages
    setup = [m for m in messages if m.phase == "setup"]
    assert len(setup) == 2 * 3
    assert {m.source for m in setup} == {"model"}
    assert not any(m.source == "model" for m in messages if m.phase == "online")


def test_labels_and_steps():
    lowered = lower_program(network()[0].module, Rep3())
    steps = {op.attrs["step"] for op in lowered.party.main.walk("party.transfer")}
    assert {"conv_0/truncate/exchange", "relu_0/negative/tables", "scores/reveal/reveal"} <= steps
    assert {op.loc for op in lowered.party.main.ops} >= {"conv_0", "relu_0", "gemm_0", "scores"}
    assert any(r.startswith("relu_0/select/select=P") for r in lowered.party.attrs["roles"])


def test_weights_are_presummed_in_setup():
    """Five products in one conv per party, the sums of weights outside the run."""
    module = lower_program(network()[0].module, Rep3()).party
    convs = list(module.main.walk("party.conv"))
    assert [len(op.operands) for op in convs] == [2, 4, 4]
    phase = {s.op: s.phase for s in schedule(module).steps}
    for op in convs:
        assert [v.op is not None and phase[v.op] for v in op.operands[1::2]] == ["setup"] * (
            len(op.operands) // 2
        )


def test_lowering_is_deterministic_and_does_not_see_values():
    first, second = network(seed=0)[0], network(seed=1)[0]
    texts = [print_module(lower_program(p.module, Rep3()).party) for p in (first, second)]
    assert texts[0] == texts[1]


def test_links_are_balanced():
    """Greedy roles: no link between parties carries more than a third above the mean."""
    p = Program()
    x = p.weight(np.zeros(1000, np.int64), 20, 50)
    for _ in range(12):
        y = p.op("shift_left", x, amount=10, width=60)
        y = p.op("truncate", y, amount=10, width=51)
        y = p.op("truncate", y, amount=4, width=47)
        bit = p.op("negative", y)
        p.op("select", bit, y, width=47)
    loads: dict[str, int] = {}
    for entry in lower_program(p.module, Rep3()).costs[1:]:
        for link, nbytes in entry.cost.bytes_sent.items():
            loads[link] = loads.get(link, 0) + nbytes
    assert len(loads) == 6
    assert max(loads.values()) < 1.34 * sum(loads.values()) / 6


def test_balance_counts_phases_apart():
    balance = LinkBalance()
    roles = [("P0", "P1", "P2"), ("P1", "P2", "P0")]

    def cost(role):
        return Cost(1, {(role[0], role[1]): 8})

    assert balance.choose("online", roles, cost) == roles[0]
    assert balance.choose("online", roles, cost) == roles[1]
    assert balance.choose("setup", roles, cost) == roles[0]


def test_dead_steps_keep_their_messages():
    """Messages are effects: cost formulas stay exact when nothing uses a result."""
    p = Program()
    x = p.weight([1, -2], 0, 10)
    bit = p.op("negative", x)
    p.op("select", bit, x, width=10)
    execute(p, Rep3())
    lowered = lower_program(p.module, Rep3())
    assert lowered.costs[2].cost.total_bytes == 4 * 16
    assert sum(m.nbytes for m in schedule(lowered.party).messages if m.loc == "select_2") == 64


class Unknown(Operation):
    name = "secure.unknown"

    @classmethod
    def infer(cls, types, attrs):
        return (BitType((1,)),)


def test_an_op_that_is_not_offered_is_named_with_its_node():
    module = Module("secure")
    module.main.append(Unknown, (), loc="node_7")
    with pytest.raises(MpccError, match=r"does not offer secure\.unknown") as error:
        lower_program(module, Rep3())
    assert error.value.diagnostics[0].where == "node_7"


def test_other_levels_are_refused():
    with pytest.raises(MpccError, match="cannot lower a module of level party"):
        lower_program(Module("party"), Rep3())


def test_protocols_by_name():
    assert protocol_named("rep3").name == "rep3"
    with pytest.raises(MpccError, match="no protocol named 'spdz'"):
        protocol_named("spdz")


def test_names():
    assert key_name("client", "P2", "P0") == "P0+P2+client"
    assert {component(p, q) for p in ("P0",) for q in ("P1", "P2")} == {0, 1}
    with pytest.raises(KeyError, match="does not hold"):
        Program_share().at("P0", 2)


def Program_share():  # noqa: N802
    p = Program()
    x = p.weight([1], 0, 3)
    share = lower_program(p.module, Rep3()).shares[x]
    return share


def test_costs_compose():
    a, b = Cost(1, {("P0", "P1"): 3}), Cost(2, {("P0", "P1"): 4, ("P1", "P2"): 1})
    assert a.then(b) == Cost(3, {("P0", "P1"): 7, ("P1", "P2"): 1})
    assert a.beside(b).rounds == 2
    assert a.then(b).bytes_sent == {"0->1": 7, "1->2": 1}


def test_plain_coins_are_zero():
    np.testing.assert_array_equal(Coin(None, 4).read({}, (2,)), [0, 0])


def test_draws_appear_once_per_place():
    module = Module("party")
    builder = Builder(module.main, LinkBalance())
    draw = builder.draw_bits(("P1", "P0"), 8, 2)
    assert draw.at("P0") is draw.at("P0")
    assert draw.at("P1") is not draw.at("P0")
    second = builder.draw_ring(("P0", "P1"), (2,), 64).at("P0").op
    assert second is not None
    assert second.attrs["stream"] == 1
