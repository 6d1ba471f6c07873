"""The peers that install from the package index, and their virtual environments.

Each needs a Python that its wheels exist for. It is looked for as ``python3.N`` on the path and
among pyenv's versions; where none is found, the error names what to install.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Row

__all__ = ["PEERS", "Peer", "PeerError", "ensure", "measure"]

_HERE = Path(__file__).parent
_CACHE = _HERE.parent.parent / ".cache" / "peers"

_INSTALL_SECONDS = 3600.0
_RUN_SECONDS = 3600.0


class PeerError(RuntimeError):
    """A peer cannot be set up or has failed; the text says what and why."""


@dataclass(frozen=True)
class Peer:
    """One system.

    Attributes:
        name: on the command line, and in results.
        title: for tables.
        pythons: minor versions of Python 3 that its wheels are for, best first.
        requirements: pinned; what pip gets in one call each.
        worker: script in this folder; takes a case and ``--seconds``.
        probe: what must be importable.
        cases: of :mod:`benchmarks.cases`; ``:tuned`` marks a model rewritten for the peer.
    """

    name: str
    title: str
    pythons: tuple[int, ...]
    requirements: tuple[tuple[str, ...], ...]
    worker: str
    probe: str
    cases: tuple[str, ...]


_NETWORKS = ("A1", "A128", "B1", "B128", "C1", "C128")
_TUNED = tuple(f"{net}:tuned" for net in ("B1", "B128", "C1", "C128", "maxpool1e6", "maxpool112"))

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "spu",
            "SPU 0.9.5 (ABY3)",
            (11, 10),
            (("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy==1.26.4"),),
            "spu_worker.py",
            "spu, jax",
            (
                *_NETWORKS,
                *("matmul256", "matmul1024", "mul1e4", "mul1e6", "relu1e4", "relu1e6"),
                *("maxpool1e4", "maxpool1e6", "maxpool112", "resnet18", "resnet50"),
                *("exp", "reciprocal", "sqrt", "sigmoid", "tanh", "erf", "gelu", "gelutanh"),
                *("softmax", "bert"),
                *_TUNED,
            ),
        ),
        Peer(
            "crypten",
            "CrypTen 0.4.1 (two parties)",
            (11, 12, 10),
            (
                (
                    "torch==2.14.1",
                    "numpy==2.4.6",
                    "pyyaml==6.0.3",
                    "onnx==1.23.2",
                    "omegaconf==2.4.0",
                ),
                # Its own list of needs names packages that are gone or not used here.
                ("--no-deps", "crypten==0.4.1"),
            ),
            "crypten_worker.py",
            "torch, yaml, onnx, omegaconf",
            (
                *_NETWORKS,
                *("matmul256", "matmul1024", "mul1e4", "mul1e6", "relu1e4", "relu1e6"),
                *("maxpool1e4", "maxpool1e6", "maxpool112"),
            ),
        ),
        Peer(
            "tf-encrypted",
            "tf-encrypted 0.9.1 (ABY3)",
            (9,),
            (
                (
                    *("tensorflow==2.9.1", "numpy==1.23.5", "protobuf==3.19.6"),
                    *("tf2onnx==1.12.1", "pyyaml", "tf-encrypted==0.9.1"),
                ),
            ),
            "tf_encrypted_worker.py",
            "tf_encrypted",
            (*_NETWORKS, "matmul256", "matmul1024", "relu1e4", "relu1e6"),
        ),
    )
}
"""By name, in the order of tables."""


def _nothing(text: str) -> None:
    """No progress wanted."""


def _run(line: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command without this project on its path.

    Raises:
        PeerError: it took too long.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        return subprocess.run(
            list(line),
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"`{' '.join(line)}` did not end within {seconds:.0f} s") from None


def _last(text: str, lines: int = 6) -> str:
    """The end of what a program said."""
    return "\n".join(text.strip().splitlines()[-lines:])[-2000:]


def find_python(versions: Sequence[int]) -> str | None:
    """An interpreter of one of these minor versions of Python 3."""
    for minor in versions:
        if found := shutil.which(f"python3.{minor}"):
            # pyenv puts a script there for versions that are not switched on.
            done = _run([found, "-c", "import sys; print(sys.version_info[1])"], 60)
            if done.returncode == 0 and done.stdout.strip() == str(minor):
                return found
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        for path in sorted((root / "versions").glob(f"3.{minor}.*/bin/python")):
            return str(path)
    return None


def ensure(peer: Peer, progress: Callable[[str], None] = _nothing) -> Path:
    """The interpreter of a peer's environment, which is made first if need be.

    Raises:
        PeerError: no fitting Python, or an installation failed; with what pip said.
    """
    folder = _CACHE / peer.name
    python = folder / "bin" / "python"
    stamp = folder / "installed.json"
    wanted = json.dumps([*map(list, peer.requirements)])
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    base = find_python(peer.pythons)
    if base is None:
        versions = " or ".join(f"3.{minor}" for minor in peer.pythons)
        raise PeerError(f"{peer.title} needs Python {versions}, which is not here")
    progress(f"{peer.title}: installing into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = _run([base, "-m", "venv", "--clear", str(folder)], _INSTALL_SECONDS)
    for requirements in peer.requirements:
        if done.returncode == 0:
            line = [str(python), "-m", "pip", "install", "--quiet", *requirements]
            done = _run(line, _INSTALL_SECONDS)
    if done.returncode == 0:
        done = _run([str(python), "-c", f"import {peer.probe}"], 600)
    if done.returncode:
        said = _last(done.stderr)
        raise PeerError(f"{peer.title} does not install (exit code {done.returncode}):\n{said}")
    stamp.write_text(wanted)
    return python


def measure(
    peer: Peer, case: str, seconds: float, progress: Callable[[str], None] = _nothing
) -> Row:
    """One session of a peer on a case.

    Args:
        peer: the system.
        case: of ``peer.cases``.
        seconds: of timed runs, about.
        progress: told what takes long.

    Raises:
        PeerError: it cannot be set up, failed, or printed no result.
    """
    python = ensure(peer, progress)
    name, _, setting = case.partition(":")
    line = [str(python), str(_HERE / peer.worker), case, "--seconds", str(seconds)]
    done = _run(line, _RUN_SECONDS)
    if done.returncode:
        raise PeerError(f"{peer.title}, {case}: exit code {done.returncode}\n{_last(done.stderr)}")
    rows = [text for text in done.stdout.splitlines() if text.startswith("{")]
    try:
        values: dict[str, Any] = json.loads(rows[-1])
        return Row(system=peer.name, case=name, link="none", setting=setting, **values)
    except (IndexError, TypeError, ValueError):
        said = _last(done.stdout)
        raise PeerError(f"{peer.title}, {case}: no result in what it printed:\n{said}") from None
