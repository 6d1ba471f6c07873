"""Several tasks per party: a batch in pieces gives what the pieces give."""

import numpy as np
import pytest

import mpcc
from benchmarks import models
from benchmarks.scale import need
from mpcc import api
from mpcc.api.scale import joined, shards
from mpcc.errors import MpccError


@pytest.fixture(scope="module")
def network():
    model = models.network_a()
    samples = models.sample_inputs(model, 3)
    compiled = mpcc.compile(
        model.serialized(),
        calibration={name: np.stack([s[name] for s in samples]) for name in samples[0]},
    )
    return compiled, [dict(s) for s in samples]


def together(samples):
    return {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}


@pytest.mark.parties
def test_two_tasks_compute_two_rows(network):
    compiled, samples = network
    result = mpcc.run_local(
        compiled.artifact, compiled.weights, together(samples[:2]), tasks_per_party=2, repeat=2
    )
    alone = [
        mpcc.simulate(compiled.artifact, compiled.weights, s, rounding="floor").outputs
        for s in samples[:2]
    ]
    for name, array in result.outputs.items():
        assert array.shape[0] == 2
        wanted = joined(alone)[name]
        # Coins of truncations differ from run to run; rows that are swapped would not be close.
        np.testing.assert_allclose(array, wanted, atol=np.abs(wanted[0] - wanted[1]).max() / 20)
    assert result.stats["tasks_per_party"] == 2
    assert len(result.stats["online_seconds"]) == 2
    assert len(result.stats["peak_rss_bytes"]) == 3
    predicted = api.cost(compiled.artifact).cost.online.bytes_sent
    assert result.stats["bytes_sent"] == {link: 2 * n for link, n in predicted.items()}


def test_pieces_are_the_rows_in_order(network):
    compiled, samples = network
    pieces = shards(compiled.artifact, together(samples), 3)
    for piece, sample in zip(pieces, samples, strict=True):
        for name, array in sample.items():
            np.testing.assert_array_equal(piece[name], array)
    assert joined([{"y": np.array([1, 2])}, {"y": np.array([3])}])["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("options", [{"engine": "party-interpreter"}, {"trace": "t.json"}])
def test_other_engines_have_one_task(network, options):
    compiled, samples = network
    with pytest.raises(MpccError) as caught:
        mpcc.run_local(
            compiled.artifact, compiled.weights, samples[0], tasks_per_party=2, **options
        )
    assert caught.value.code in ("E-option-tasks", "E-option-trace")


def test_another_number_of_rows_is_refused(network):
    compiled, samples = network
    with pytest.raises(MpccError, match="E-option-tasks: 4 tasks take 4 rows"):
        shards(compiled.artifact, together(samples), 4)


def test_a_program_without_a_batch_is_refused(network):
    from tests.runtime.sum_program import artifact, program

    made = artifact(program())
    made.outputs[0]["shape"] = [39]
    with pytest.raises(MpccError, match="E-option-tasks: inputs and outputs have no first axis"):
        shards(made, {"x": np.zeros(80, np.float32)}, 2)


def test_what_a_rate_needs():
    # 100 runs a second, each 0.3 s of processors, 1.25 MB on a link, 50 ms long.
    found = need(800.0, 8, 0.3, 1_250_000, 0.05)
    assert (found.cores, found.gigabits) == pytest.approx((10.0, 1.0))
    assert found.triples == 5
    # 4.5 runs at a time need five triples.
    assert need(800.0, 8, 0.3, 1_250_000, 0.045).triples == 5
