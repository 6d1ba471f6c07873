"""Which importer reads a model, by what the file is and not by its name."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mpcc.errors import MpccError
from mpcc.files import looks_like
from mpcc.frontend.importer import Imported
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.options import OpenShape

__all__ = ["Format", "format_of", "import_model"]

_HEAD = 64
"""Bytes from which a file's kind is told."""

_KERAS_MEMBERS = frozenset(("config.json", "metadata.json"))


@dataclass(frozen=True)
class Format:
    """A format of models.

    Attributes:
        title: for messages.
        note: one line for the user about how such a model is read; "" if there is nothing to say.
    """

    title: str
    note: str = ""


_ONNX = Format("ONNX")
_SAVED_MODEL = Format("SavedModel", "SavedModel: read by TensorFlow; its variables become weights")
_KERAS = Format("Keras", "Keras file: loaded by Keras and traced for inference by TensorFlow")
_LITE = Format("TensorFlow Lite", "TensorFlow Lite: translated to ONNX's operators as it is read")


def format_of(source: str | os.PathLike[str] | bytes) -> Format:
    """The format of a model; that of ONNX for whatever is not known."""
    if isinstance(source, bytes):
        return _ONNX
    path = Path(source)
    try:
        if path.is_dir():
            return _SAVED_MODEL
        if not path.is_file():
            return _ONNX
        with path.open("rb") as file:
            found = looks_like(file.read(_HEAD))
    except OSError:
        return _ONNX  # whose importer says why it cannot be read
    if "HDF5" in found or ("zip" in found and _is_keras(path)):
        return _KERAS
    return _LITE if "Lite" in found else _ONNX


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as opened:
            return set(opened.namelist()) >= _KERAS_MEMBERS
    except (OSError, zipfile.BadZipFile):
        # Half a file of Keras is one to Keras, which says so.
        return path.suffix == ".keras"


def import_model(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
    signature: str = "",
    calls: bool = False,
) -> Imported:
    """Import a model of any known format.

    Args:
        source: path of an ONNX file, of a SavedModel's folder, of a Keras file or of one of
            TensorFlow Lite; or the bytes of an ONNX file.
        shapes: as for :func:`mpcc.frontend.onnx.loader.import_onnx`.
        owners: as there.
        weights: as there.
        batch: as there.
        signature: of a SavedModel or of TensorFlow Lite, which function to import;
            ``serving_default`` if empty.
        calls: as there, of ONNX; steps of other formats are written out.

    Raises:
        MpccError: as of the format's importer; ``E-model-signature`` if the format has none and one
            is given.
    """
    found = format_of(source)
    if found is _SAVED_MODEL and not isinstance(source, bytes):
        from mpcc.frontend.tensorflow.loader import import_saved_model

        return import_saved_model(source, shapes, owners, weights, batch, signature)
    if found is _LITE and not isinstance(source, bytes):
        from mpcc.frontend.tflite.loader import import_tflite

        return import_tflite(source, shapes, owners, weights, batch, signature)
    if signature:
        raise MpccError.of(
            "E-model-signature",
            f"a model of format {found.title} has no signatures",
            _where(source),
            "leave the signature out; only SavedModels and TensorFlow Lite models have any",
        )
    run: Callable[..., Imported] = partial(import_onnx, calls=calls)
    if found is _KERAS:
        from mpcc.frontend.tensorflow.loader import import_keras

        run = import_keras
    return run(source, shapes, owners, weights, batch)


def _where(source: str | os.PathLike[str] | bytes) -> str:
    return "the given bytes" if isinstance(source, bytes) else str(source)
