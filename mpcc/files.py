"""Files: writing them whole or not at all, several together, and telling their kinds apart."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from mpcc.errors import MpccError

__all__ = [
    "Create",
    "atomic_files",
    "atomic_write",
    "json_bytes",
    "load_json",
    "looks_like",
    "public_arrays",
    "public_bytes",
]

Array: TypeAlias = npt.NDArray[Any]

Create: TypeAlias = Callable[..., AbstractContextManager[IO[bytes]]]
"""``create(path, mode=0o644)``: a binary file to write, of :func:`atomic_files`."""


_SIGNATURES: tuple[tuple[bytes, int, bytes, str], ...] = (
    (b"PK\3\4", 30, b"manifest.json", "an mpcc artifact"),
    (b"PK\3\4", 0, b"", "a zip file, as PyTorch and Keras write"),
    (b"\x89HDF", 0, b"", "an HDF5 file, as Keras writes"),
    (b"\x93NUMPY", 0, b"", "a numpy array"),
    (b"\x1f\x8b", 0, b"", "a gzip file"),
    (b"%PDF", 0, b"", "a PDF"),
    (b"", 4, b"TFL3", "a TensorFlow Lite model"),
    (b"", 8, b'{"', "a safetensors file, as M.weights is"),
    # A model's protobuf message begins with its version and, mostly, the name of who wrote it.
    (b"\x08", 2, b"\x12", "an ONNX model"),
    (b"\x08", 2, b":", "an ONNX model"),
)
"""(first bytes, offset, bytes there, kind of file); the first that fits counts."""


def looks_like(data: bytes) -> str:
    """What kind of file this may be, for errors about files of the wrong kind; "" if unknown."""
    for first, offset, there, kind in _SIGNATURES:
        if data.startswith(first) and data[offset : offset + len(there)] == there:
            return kind
    return ""


@contextmanager
def atomic_files() -> Iterator[Create]:
    """Files that appear under their names together, when all of them are complete.

    The data go to temporary files in the same directories, are flushed to the disk, and are renamed
    in the order in which the files were created. If the block raises, the disk is full or a file
    cannot be renamed, the old files stay as they were and nothing else remains. A machine that
    stops between two renames can leave the first files new and the others old.

    Raises:
        MpccError: ``E-file-write`` with the system's reason.
    """
    made: list[tuple[Path, Path]] = []

    @contextmanager
    def create(path: Path | str, mode: int = 0o644) -> Iterator[IO[bytes]]:
        target = Path(path)
        with _reported(target):
            # mkstemp opens with mode 0600, so a secret is never readable in between.
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            made.append((Path(temporary), target))
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())

    try:
        yield create
        _rename_all(made)
    finally:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)


@contextmanager
def _reported(target: Path) -> Iterator[None]:
    """Errors of the system as ours, naming the file."""
    try:
        yield
    except OSError as error:
        raise MpccError.of(
            "E-file-write", f"cannot write: {error.strerror or error}", str(target)
        ) from None


def _rename_all(files: Sequence[tuple[Path, Path]]) -> None:
    """Rename (from, to) in order; if one fails, what stood under the names before is put back."""
    kept: list[tuple[Path, Path]] = []
    renamed: set[Path] = set()
    try:
        for temporary, target in files:
            old = temporary.with_name(temporary.name + ".old")
            with _reported(target):
                if len(files) > 1:
                    kept.append((target, old))
                    _keep(target, old)
                os.replace(temporary, target)
            renamed.add(target)
    except BaseException:
        for target, old in reversed(kept):
            if os.path.lexists(old):
                os.replace(old, target)
            elif target in renamed:
                target.unlink()
        raise
    finally:
        for _, old in kept:
            old.unlink(missing_ok=True)
    for folder, target in {target.parent: target for target in renamed}.items():
        with _reported(target):
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)  # the renames themselves
            finally:
                os.close(directory)


def _keep(target: Path, old: Path) -> None:
    """What stands under the name ``target``, if anything, also under the name ``old``."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        os.link(target, old, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError:
        os.replace(target, old)  # a file system without links


@contextmanager
def atomic_write(path: Path | str, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when it is complete; see :func:`atomic_files`.

    Args:
        path: the file to write or replace.
        mode: permissions of the new file, whatever the umask.

    Raises:
        MpccError: ``E-file-write`` with the system's reason.
    """
    with atomic_files() as create, create(path, mode) as file:
        yield file


def public_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name as binary32 in the safetensors format; the same arrays give the same bytes."""
    words = {name: np.asarray(arrays[name], "<f4", order="C") for name in sorted(arrays)}
    data: bytes = safetensors.numpy.save(words)
    return data


def public_arrays(data: bytes, where: str) -> dict[str, Array]:
    """What :func:`public_bytes` wrote, from bytes that are not trusted.

    Raises:
        MpccError: ``E-artifact-public``: damaged, no finite numbers, or in another form.
    """

    def refused(what: str) -> MpccError:
        return MpccError.of("E-artifact-public", what, where, "compile the model again")

    try:
        arrays: dict[str, Array] = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise refused(f"damaged: {error}") from None
    if any(a.dtype != np.float32 or not bool(np.isfinite(a).all()) for a in arrays.values()):
        raise refused("weights are finite binary32 numbers")
    if public_bytes(arrays) != data:
        raise refused("not in the form that is written: it may say more")
    return arrays


_MAX_DEPTH = 32
"""Of JSON; what is written here has fewer than ten levels."""


def _plain(value: Any) -> Any:
    """Scalars and arrays of numpy as JSON values."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def json_bytes(value: Any) -> bytes:
    """A value as indented JSON with sorted keys; the same value gives the same bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=_plain)
    return (text + "\n").encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table


def _is_deep(value: Any) -> bool:
    """Whether JSON is nested more than ``_MAX_DEPTH`` deep; what walks it may recurse."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def load_json(data: bytes, code: str, where: str) -> dict[str, Any]:
    """A JSON object; no duplicate keys, no NaN, not nested deeply.

    Raises:
        MpccError: of the given code, about the given place.
    """
    try:
        value = json.loads(
            data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except RecursionError:
        raise MpccError.of(code, "nested too deeply", where) from None
    except ValueError as error:
        raise MpccError.of(code, f"not JSON: {error}", where) from None
    if not isinstance(value, dict):
        raise MpccError.of(code, "not a JSON object", where)
    if _is_deep(value):
        raise MpccError.of(code, "nested too deeply", where)
    return value
