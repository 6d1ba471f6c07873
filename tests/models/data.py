"""Data of the model tests: what ships in scikit-learn, and Fashion-MNIST where it is installed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.real_inputs import cache_directory

Array = npt.NDArray[Any]

FASHION = (Path("/usr/share/datasets/fashion-mnist"), cache_directory() / "fashion-mnist")
"""Where Debian's package dataset-fashion-mnist has it, and where its files may be put by hand."""


@dataclass(frozen=True)
class Split:
    """Training and test data, inputs float32 with the sample first, labels integers."""

    train: Array
    train_labels: Array
    test: Array
    test_labels: Array


def _split(x: Array, labels: Array) -> Split:
    """Every fourth sample, in a random order, is for the test."""
    order = np.random.default_rng(0).permutation(len(x))
    test = np.zeros(len(x), bool)
    test[order[: len(x) // 4]] = True
    return Split(x[~test], labels[~test], x[test], labels[test])


def biopsies() -> Split:
    """Breast-cancer biopsies (UCI): 569 x 30 normalised features; class 1 is benign."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    split = _split(found.data.astype(np.float32), found.target.astype(np.int64))
    mean, deviation = split.train.mean(axis=0), split.train.std(axis=0)
    return Split(
        (split.train - mean) / deviation,
        split.train_labels,
        (split.test - mean) / deviation,
        split.test_labels,
    )


def digits() -> Split:
    """Handwritten digits (UCI): 1797 pictures [1, 8, 8] in [0, 1]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = (found.images[:, None] / 16).astype(np.float32)
    return _split(pictures, found.target.astype(np.int64))


def fashion() -> Split | None:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 pictures [1, 28, 28] in [0, 1].

    Returns:
        None where it is not installed.

    Raises:
        ValueError: a file has another format.
    """
    folder = next((f for f in FASHION if f.is_dir()), None)
    if folder is None:
        return None
    images = [_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [_idx(folder / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    train, test = (i[:, None].astype(np.float32) / 255 for i in images)
    return Split(train, labels[0].astype(np.int64), test, labels[1].astype(np.int64))


def _idx(path: Path) -> Array:
    """An IDX file of bytes: two zeros, type 8, the number of axes, big-endian sizes, the bytes."""
    with gzip.open(path) as file:
        data = file.read()
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    values = np.frombuffer(data, np.uint8, -1, 4 + 4 * axes)
    if data[:3] != b"\0\0\x08" or values.size != int(np.prod(shape)):
        raise ValueError(f"{path.name} is no IDX file of bytes")
    return values.reshape(shape)
