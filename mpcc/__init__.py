"""mpcc: compile a neural network into a program that three parties run on secret shares.

The public names are few; see :mod:`mpcc.api` for their documentation. They are imported when they
are first used, so that ``import mpcc`` and the command line start quickly::

    compiled = mpcc.compile("model.onnx", calibration={"image": samples})
    compiled.save("model.mpcc")
    result = mpcc.run_local(mpcc.Artifact.load("model.mpcc"), "model.weights", {"image": x})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mpcc.version import VERSION as __version__

if TYPE_CHECKING:
    from mpcc.api import (
        Batches,
        Compiled,
        CompileOptions,
        Party,
        Session,
        compile,
        run_local,
        simulate,
        verify,
    )
    from mpcc.artifact import Artifact
    from mpcc.errors import MpccError

__all__ = [
    "Artifact",
    "Batches",
    "CompileOptions",
    "Compiled",
    "MpccError",
    "Party",
    "Session",
    "__version__",
    "compile",
    "run_local",
    "simulate",
    "verify",
]

_HOMES = {"Artifact": "mpcc.artifact", "MpccError": "mpcc.errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mpcc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "mpcc.api")), name)
