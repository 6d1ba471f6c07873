"""The plaintext answer: the same network in onnxruntime."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from examples.blazeface.model import INPUT_NAME, OUTPUT_NAMES, model_path

__all__ = ["run"]


@functools.cache
def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(image: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """The four outputs by name for one input ``[1, 128, 128, 3]`` in [-1, 1].

    Raises:
        FetchError: the model cannot be fetched.
    """
    values = _session(model_path()).run(list(OUTPUT_NAMES), {INPUT_NAME: image})
    return dict(zip(OUTPUT_NAMES, values, strict=True))
