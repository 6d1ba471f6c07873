"""The party interpreter: its PRG, phases, depths, statistics, regions and refusals."""

import hashlib

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.core import Function, Module
from mpcc.ir.interp import party as interp
from mpcc.ir.ops import party
from mpcc.ir.schedule import schedule


class CountingKeys:
    """Draws that are their own description, and a record of them."""

    def __init__(self):
        self.seen = []

    def draw(self, key, phase, stream, nbytes):
        self.seen.append((key, phase, stream, nbytes))
        return np.full(nbytes, stream + 1, np.uint8)


def draw(module, place, stream, phase="online", shape=(4,), key="P0+P1"):
    attrs = {"key": key, "stream": stream, "phase": phase, "place": place, "shape": shape}
    return module.main.append(party.DrawRing, (), attrs).result


def send(module, value, to, step="s"):
    return module.main.append(party.Transfer, (value,), {"to": to, "step": step}).result


def add(module, a, b):
    return module.main.append(party.Add, (a, b)).result


def test_aes_known_answer():
    """FIPS-197, appendix C.1: key 00..0f, block 00112233445566778899aabbccddeeff."""
    key = bytes(range(16))
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    stream = int.from_bytes(block[:8], "little")
    counter = int.from_bytes(block[8:], "little")
    expected = "69c4e0d86a7b0430d8cdb78070b4c55a"
    # Counter blocks are stream || block index; reach this index through a fresh cipher.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    assert cipher.update(block).hex() == expected
    one = interp.aes_ctr(key, stream, 40)
    for index in (0, 1, 2):
        counter_block = stream.to_bytes(8, "little") + index.to_bytes(8, "little")
        part = one[16 * index : 16 * index + 16].tobytes()
        assert part == cipher.update(counter_block)[: len(part)]
    assert counter > 2


def test_aes_ctr_lengths():
    key = b"k" * 16
    long = interp.aes_ctr(key, 7, 1000)
    for n in (0, 1, 15, 16, 17, 999):
        np.testing.assert_array_equal(interp.aes_ctr(key, 7, n), long[:n])
    assert not np.array_equal(interp.aes_ctr(key, 8, 1000), long)


def test_seeded_keys_are_as_documented():
    seed = 258
    text = b"mpcc-test-key" + (258).to_bytes(8, "little") + b"P0+P1/run:3"
    key = hashlib.sha256(text).digest()[:16]
    assert interp.SeededKeys(seed).key("P0+P1", "run:3") == key
    np.testing.assert_array_equal(
        interp.SeededKeys(seed).draw("P0+P1", "run:3", 5, 32), interp.aes_ctr(key, 5, 32)
    )


def test_fresh_keys_differ_between_sources_and_agree_within_one():
    a, b = interp.FreshKeys(), interp.FreshKeys()
    first = a.draw("P0+P1", "run:1", 0, 64)
    np.testing.assert_array_equal(first, a.draw("P0+P1", "run:1", 0, 64))
    assert not np.array_equal(first, b.draw("P0+P1", "run:1", 0, 64))
    assert not np.array_equal(first, a.draw("P0+P1", "run:2", 0, 64))
    assert "secret" not in repr(a)


def program():
    """A weight shared in setup, then two dependent messages and one beside them."""
    m = Module("party")
    attrs = {"name": "w", "shape": (4,), "place": "model"}
    w = m.main.append(party.Weight, (), attrs).result
    early = send(m, w, "P0", "weights")
    setup = add(m, early, draw(m, "P0", 0, "setup"))
    x = add(m, setup, draw(m, "P0", 0))
    once = send(m, x, "P1", "first")
    twice = send(m, add(m, once, draw(m, "P1", 1)), "P2", "second")
    other = send(m, draw(m, "P0", 2), "P2", "beside")
    total = add(m, twice, other)
    shown = m.main.append(party.Decode, (send(m, total, "client", "show"),), {"frac": 2}).result
    m.main.append(party.Output, (shown,), {"name": "y"})
    return m, total


WEIGHTS = {"w": np.array([1, 2, 3, -4])}


def test_phases_depths_and_statistics():
    module, total = program()
    keys = CountingKeys()
    session = interp.Session(module, WEIGHTS, keys, record=True)
    assert [(m.step, m.depth, m.phase) for m in session.setup.messages] == [("weights", 1, "setup")]
    assert [k[:3] for k in keys.seen] == [("P0+P1", "setup", 0)]
    run = session.run({}, 7, keep=[total])
    assert {k[1] for k in keys.seen[1:]} == {"run:7"}
    assert {m.step: m.depth for m in run.messages} == {
        "first": 1,
        "second": 2,
        "beside": 1,
        "show": 3,
    }
    assert run.rounds == 3
    assert run.bytes_sent == {"0->1": 32, "1->2": 32, "0->2": 32, "2->client": 32}
    word = {n: int.from_bytes(bytes([n] * 8), "little") for n in (1, 2, 3)}
    expected = [(w + word[1] + word[1] + word[2] + word[3]) % 2**64 for w in (1, 2, 3, -4)]
    assert run.values[total].tolist() == expected
    signed = np.array(expected, np.uint64).view(np.int64)
    np.testing.assert_array_equal(run.outputs["y"], (signed / 4).astype(np.float32))
    assert run.messages[-1].payload is not None
    assert run.messages[-1].payload.tobytes() == np.array(expected, "<u8").tobytes()


def test_measured_depths_are_those_of_the_schedule():
    module, _ = program()
    session = interp.Session(module, WEIGHTS, interp.SeededKeys(1))
    measured = session.setup.messages + session.run({}).messages
    planned = schedule(module).messages
    assert [(m.id, m.depth, m.nbytes, m.phase, m.link) for m in measured] == [
        (m.id, m.depth, m.nbytes, m.phase, m.link) for m in planned
    ]


def test_runs_repeat_with_equal_ids_and_differ_otherwise():
    module, total = program()
    session = interp.Session(module, WEIGHTS, interp.SeededKeys(1))
    a, b, c = (session.run({}, n, keep=[total]).values[total].tolist() for n in (1, 1, 2))
    assert a == b
    assert a != c


def test_one_call_does_setup_and_run():
    module, total = program()
    result = interp.run(module, WEIGHTS, {}, 1, keep=[total])
    assert [m.step for m in result.messages] == ["weights", "first", "second", "beside", "show"]
    assert set(result.values) == {total}


def test_regions_compute_what_their_body_does():
    plain, fused = Module("party"), Module("party")
    a, b = draw(plain, "P0", 0), draw(plain, "P0", 1)
    direct = add(plain, add(plain, a, b), draw(plain, "P0", 2))
    x, y = draw(fused, "P0", 0), draw(fused, "P0", 1)
    body = Function("body", [x.type, y.type])
    attrs = {"key": "P0+P1", "stream": 2, "place": "P0", "shape": (4,)}
    inner = body.append(party.DrawRing, (), attrs).result
    once = body.append(party.Add, tuple(body.args)).result
    body.returns = [once, body.append(party.Add, (once, inner)).result]
    region = fused.main.append(party.Fused, (x, y), body=body)
    one = interp.run(plain, {}, {}, 3, keep=[direct]).values[direct]
    two = interp.run(fused, {}, {}, 3, keep=region.results).values
    np.testing.assert_array_equal(two[region.results[1]], one)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,)])
def test_scalars_and_empty_tensors(shape):
    m = Module("party")
    value = add(m, draw(m, "P0", 0, shape=shape), draw(m, "P0", 1, shape=shape))
    found = interp.run(m, {}, {}, 1, keep=[value]).values[value]
    assert found.shape == shape
    assert found.dtype == np.uint64


def inputs(lo=-1.0, hi=1.0):
    m = Module("party")
    x = m.main.append(party.Input, (), {"name": "x", "shape": (2,), "place": "client"}).result
    m.main.append(party.Encode, (x,), {"frac": 8, "lo": lo, "hi": hi}, "layer_0")
    return m


def test_missing_and_misshapen_inputs_are_refused():
    session = interp.Session(inputs(), {}, interp.SeededKeys(1))
    with pytest.raises(MpccError, match="no input named 'x'"):
        session.run({})
    with pytest.raises(MpccError, match=r"shape \(3,\), not \(2,\)"):
        session.run({"x": np.zeros(3)})


@pytest.mark.parametrize("bad", [1.01, -2.0, np.nan, np.inf])
def test_values_out_of_range_are_refused_without_being_shown(bad):
    session = interp.Session(inputs(), {}, interp.SeededKeys(1))
    with pytest.raises(MpccError, match=r"outside \[-1\.0, 1\.0\]") as error:
        session.run({"x": np.array([0.0, bad])})
    assert error.value.code == "E-interp-value"
    assert error.value.diagnostics[0].where == "layer_0"
    assert str(bad) not in str(error.value)


def test_missing_weights_and_other_levels_are_refused():
    module, _ = program()
    with pytest.raises(MpccError, match="no weight named 'w'"):
        interp.Session(module, {}, interp.SeededKeys(1))
    with pytest.raises(MpccError, match="level secure"):
        interp.Session(Module("secure"), {}, interp.SeededKeys(1))


def test_results_do_not_show_values():
    module, total = program()
    session = interp.Session(module, WEIGHTS, interp.SeededKeys(1), record=True)
    run = session.run({}, keep=[total])
    for item in (session, run, run.messages[0], interp.SeededKeys(123456)):
        text = repr(item)
        assert "array" not in text
        assert "123456" not in text
