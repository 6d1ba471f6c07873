"""Photographs that ship inside scikit-image's wheel, so that nothing is downloaded for them.

The one that the detector is shown (``astronaut``) is not among those that calibrate it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from examples.blazeface.model import INPUT_SIZE, preprocess

__all__ = ["astronaut", "calibration_inputs", "calibration_photographs"]

Photograph = npt.NDArray[np.uint8]


def astronaut() -> Photograph:
    """Eileen Collins, NASA, public domain: uint8 ``[512, 512, 3]``."""
    return np.asarray(skimage.data.astronaut(), np.uint8)


def calibration_photographs() -> dict[str, Photograph]:
    """Pictures of many kinds, by name: people, a cat, things, and small grey faces side by side.

    uint8, ``[height, width, 3]`` or ``[height, width]``.
    """
    camera = np.asarray(skimage.data.camera(), np.uint8)
    chelsea = np.asarray(skimage.data.chelsea(), np.uint8)
    motorcycle, _, _ = skimage.data.stereo_motorcycle()
    faces = _lfw_faces()
    return {
        "camera": camera,
        "camera-head": camera[20:276, 120:376],
        "chelsea": chelsea,
        "chelsea-head": chelsea[20:270, 90:340],
        "coffee": np.asarray(skimage.data.coffee(), np.uint8),
        "rocket": np.asarray(skimage.data.rocket(), np.uint8),
        "motorcycle": np.asarray(motorcycle, np.uint8),
        "face": faces[0],
        "faces-2x2": _mosaic(faces[1:5], 2),
        "faces-3x3": _mosaic(faces[5:14], 3),
    }


def calibration_inputs() -> npt.NDArray[np.float32]:
    """The calibration photographs as network inputs: float32 ``[10, 128, 128, 3]`` in [-1, 1]."""
    return np.concatenate([preprocess(p)[0] for p in calibration_photographs().values()])


def _lfw_faces() -> list[Photograph]:
    """Faces of "Labeled Faces in the Wild", 25x25 grey, enlarged to the network's input size."""
    subset = np.asarray(skimage.data.lfw_subset(), np.float64)
    grey = np.rint(subset / subset.max(axis=(1, 2), keepdims=True) * 255).astype(np.uint8)
    size = (INPUT_SIZE, INPUT_SIZE)
    # The first 100 are faces, the others are not.
    return [
        np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BICUBIC), np.uint8)
        for face in grey[:100]
    ]


def _mosaic(faces: list[Photograph], side: int) -> Photograph:
    rows = [np.concatenate(faces[i * side : (i + 1) * side], axis=1) for i in range(side)]
    return np.concatenate(rows)
