"""TensorFlow itself: imported on this path only, without its banner.

It takes seconds to import and is no dependency of a program that was compiled before.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from typing import Any

from mpcc.errors import MpccError

__all__ = ["quiet", "tensorflow"]

_QUIET = {
    # Of the C++ library: errors only. The import itself writes its banner at a lower level.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Import needs no accelerator, and looking for one is what TensorFlow talks about most.
    "CUDA_VISIBLE_DEVICES": "-1",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's warnings from the user while it reads a model."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def tensorflow() -> Any:
    """The module ``tensorflow``.

    Variables of the environment that the user has set stay as they are; those that only keep the
    import quiet are removed after it.

    Raises:
        MpccError: ``E-import-tensorflow``; it is not installed, or its import fails.
    """
    if util.find_spec("tensorflow") is None:
        raise MpccError.of(
            "E-import-tensorflow",
            "reading a TensorFlow or Keras model needs TensorFlow, which is not installed",
            fix="pip install 'mpcc[tensorflow]', or convert the model to ONNX elsewhere",
        )
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with quiet():
            import tensorflow as tf

            # The devices are looked for at the first use, and must be found quietly too.
            tf.config.list_physical_devices()
    except ImportError as error:
        text = str(error).strip().splitlines()
        raise MpccError.of(
            "E-import-tensorflow",
            f"TensorFlow cannot be imported: {text[0] if text else error!r}",
            fix="install it again: pip install 'mpcc[tensorflow]'",
        ) from error
    finally:
        for name in added:
            os.environ.pop(name, None)
    return tf
