"""Writes the demo's files, to play with from the command line.

``python -m examples.blazeface.prepare out/`` writes ``blazeface.onnx``, ``astronaut.npz`` (the
network's input) and ``calibration.npz`` (ten other inputs), so that these work::

    mpcc compile out/blazeface.onnx --calibrate out/calibration.npz -o out/blazeface.mpcc
    mpcc run out/blazeface.mpcc --weights out/blazeface.weights --input out/astronaut.npz
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.blazeface.model import INPUT_NAME, model_path, preprocess
from examples.blazeface.photographs import astronaut, calibration_inputs

__all__ = ["Files", "main", "prepare"]


class Files:
    """Names of what :func:`prepare` writes.

    Attributes:
        model: the ONNX model.
        image: the astronaut as network input, ``[1, 128, 128, 3]`` under the input's name.
        calibration: other inputs, ``[10, 128, 128, 3]`` under the input's name.
    """

    def __init__(self, folder: Path) -> None:
        self.model = folder / "blazeface.onnx"
        self.image = folder / "astronaut.npz"
        self.calibration = folder / "calibration.npz"


def prepare(folder: Path) -> Files:
    """Writes the files into a folder, which is made if need be.

    Raises:
        FetchError: the model cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder)
    shutil.copyfile(model_path(), files.model)
    image, _ = preprocess(astronaut())
    _save(files.image, image)
    _save(files.calibration, calibration_inputs())
    return files


def _save(path: Path, inputs: npt.NDArray[np.float32]) -> None:
    arrays: dict[str, Any] = {INPUT_NAME: inputs}
    np.savez(path, **arrays)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("out"))
    files = prepare(parser.parse_args().folder)
    for path in vars(files).values():
        print(path)


if __name__ == "__main__":
    main()
