"""What this machine can do at most: ring multiply-adds and bytes through TLS, per second.

``python -m benchmarks.peaks`` measures both, with all cores at work:

* multiplications: one process per core, each repeating our own ring product of 1024 x 1024 x 1024
  (and of 512) by the kernel of the engine, operands in memory;
* bytes: three processes, as a session has parties, each sending to the two others over TLS 1.3 on
  the loopback interface with OpenSSL and no code of ours (``tls_speed.cc``), everything at once in
  both directions.

Rates are per processor second, times the cores: what other processes take from this machine
meanwhile does not count. A run of a program needs at least its multiplications divided by the
first, and at least its bytes divided by the second (:class:`Bounds`): doing nothing else, on all
cores, without ever waiting.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from mpcc.artifact import Artifact
from mpcc.emit.graphdef import emit, parse
from mpcc.ir.core import Module
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.schedule import ONLINE, schedule
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES, RingType, element_count
from mpcc.runtime.certificates import issue

__all__ = ["Bounds", "Peaks", "Work", "bounds", "cores", "main", "measure", "work_of"]

_GEMM_SIZES = (512, 1024)
_GEMM_SECONDS = 1.0
_TLS_BYTES = 64 << 20  # a multiple of the program's block of 256 KiB
_TLS_PASSES = 4
_PATIENCE = 300.0
"""Seconds after which a process that does not answer counts as dead."""

_TLS_SOURCE = Path(__file__).parent / "tls_speed.cc"
_BUILT = Path(__file__).parent.parent / ".cache" / "benchmarks"


@dataclass(frozen=True)
class Peaks:
    """Rates of this machine.

    Attributes:
        cores: that this process may use.
        multiply_adds_64: per second in Z_2^64, all cores together.
        multiply_adds_32: per second in Z_2^32, all cores together.
        tls_bytes: payload bytes per second over all links of three processes together.
    """

    cores: int
    multiply_adds_64: float
    multiply_adds_32: float
    tls_bytes: float


@dataclass(frozen=True)
class Work:
    """What a program makes the three parties do in a run.

    Attributes:
        multiply_adds_64: ring multiplications of products and convolutions, all parties together.
        multiply_adds_32: the same in Z_2^32.
        sent: payload bytes over all links.
    """

    multiply_adds_64: int
    multiply_adds_32: int
    sent: int


@dataclass(frozen=True)
class Bounds:
    """Seconds that a run takes at least."""

    multiplying: float
    sending: float

    @property
    def larger(self) -> float:
        """The bound that binds."""
        return max(self.multiplying, self.sending)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def work_of(artifact: Artifact) -> Work:
    """Counted on the program that runs; products of setup values with setup values are left out."""
    module = parse(artifact.program)
    plan = schedule(module)
    products = {64: 0, 32: 0}
    for step in plan.steps:
        op = step.op
        if step.phase != ONLINE or step.place in OWNER_PLACES:
            continue
        if op.name not in ("party.conv", "party.matmul"):
            continue
        result, left, right = op.result.type, op.operands[0].type, op.operands[1].type
        if not (isinstance(result, RingType) and isinstance(left, RingType)):
            continue
        assert isinstance(right, RingType)
        inner = element_count(right.shape[1:]) if op.name == "party.conv" else left.shape[-1]
        # Operands come in pairs whose products are summed up.
        products[result.ring] += len(op.operands) // 2 * element_count(result.shape) * inner
    sent = sum(m.nbytes for m in plan.messages if m.phase == ONLINE)
    return Work(products[64], products[32], sent)


def bounds(work: Work, peaks: Peaks) -> Bounds:
    """The least that a run takes on this machine."""
    multiplying = (
        work.multiply_adds_64 / peaks.multiply_adds_64
        + work.multiply_adds_32 / peaks.multiply_adds_32
    )
    return Bounds(multiplying, work.sent / peaks.tls_bytes)


# --- processes -----------------------------------------------------------------------------------

Worker = Callable[..., Any]


def _entry(worker: Worker, answer: Connection, *arguments: Any) -> None:
    answer.send(worker(*arguments))


def _all_at_once(worker: Worker, each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run ``worker(barrier, *arguments)`` in one process per entry; their results in order."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(each))
    running = []
    for arguments in each:
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_entry, args=(worker, theirs, barrier, *arguments), daemon=True
        )
        process.start()
        theirs.close()
        running.append((process, mine))
    results = []
    for process, mine in running:
        try:
            if not mine.poll(_PATIENCE):
                raise EOFError
            results.append(mine.recv())
        except EOFError:
            for other, _ in running:
                other.terminate()
            raise RuntimeError("a measuring process ended without a result") from None
        process.join()
    return results


# --- multiplications -----------------------------------------------------------------------------


def _product(size: int, ring: int) -> bytes:
    """A party program of two draws and their product."""
    module = Module("party")
    draws = [
        module.main.append(
            DIALECT.operations["party.draw_ring"],
            (),
            {"key": "P0+client", "stream": i, "place": "P0", "shape": (size, size), "ring": ring},
        ).result
        for i in range(2)
    ]
    module.main.append(DIALECT.operations["party.matmul"], draws, {})
    return emit(module)


def _multiply(barrier: Barrier, ring: int, seconds: float) -> dict[int, float]:
    """Multiply-adds per processor second by size, while the other processes measure too."""
    from mpcc import _native

    dtype = np.uint64 if ring == 64 else np.uint32
    generator = np.random.default_rng(1)
    rates = {}
    for size in _GEMM_SIZES:
        program = _product(size, ring)
        operands = [generator.integers(0, 2**ring, (size, size), dtype).tobytes() for _ in range(2)]
        _native.evaluate_op(program, 2, operands, {})
        barrier.wait(_PATIENCE)
        times: list[float] = []
        while sum(times) < seconds or len(times) < 3:
            start = time.process_time()
            _native.evaluate_op(program, 2, operands, {})
            times.append(time.process_time() - start)
        rates[size] = size**3 / min(times)
    return rates


def _multiply_adds(ring: int, seconds: float) -> float:
    rates = _all_at_once(_multiply, [(ring, seconds)] * cores())
    return max(sum(process[size] for process in rates) for size in _GEMM_SIZES)


# --- bytes ---------------------------------------------------------------------------------------


def _tls_program() -> Path:
    """``tls_speed``, compiled where its source has changed.

    Raises:
        RuntimeError: it does not compile; with what the compiler said.
    """
    program = _BUILT / "tls_speed"
    if program.is_file() and program.stat().st_mtime >= _TLS_SOURCE.stat().st_mtime:
        return program
    compiler = os.environ.get("CXX") or "c++"
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler {compiler}; `make setup` names the package")
    program.parent.mkdir(parents=True, exist_ok=True)
    new = program.with_suffix(".new")
    line = [compiler, "-std=c++20", "-O2", "-o", str(new), str(_TLS_SOURCE)]
    done = subprocess.run(
        [*line, "-lssl", "-lcrypto", "-pthread"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{_TLS_SOURCE} does not compile:\n{done.stderr}")
    new.replace(program)
    return program


def _tls_bytes(count: int) -> float:
    """Payload bytes per processor second over all links."""
    program = _tls_program()
    with tempfile.TemporaryDirectory(prefix="mpcc-") as folder:
        issue(Path(folder), COMPUTE_PLACES)
        done = subprocess.run(
            [str(program), folder, str(count), str(_TLS_PASSES)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    if done.returncode:
        raise RuntimeError(f"measuring TLS failed:\n{done.stderr}")
    processor_seconds = [float(line.split()[1]) for line in done.stdout.splitlines()]
    links = len(COMPUTE_PLACES) * (len(COMPUTE_PLACES) - 1)
    return links * count / min(processor_seconds)


def measure(seconds: float = _GEMM_SECONDS, count: int = _TLS_BYTES) -> Peaks:
    """Measure this machine; takes some ten seconds.

    Args:
        seconds: of multiplying, per size and ring.
        count: bytes per link and pass, a multiple of 256 KiB.
    """
    products = [_multiply_adds(ring, seconds) for ring in (64, 32)]
    return Peaks(cores(), products[0], products[1], cores() * _tls_bytes(count))


def main(argv: list[str]) -> int:
    """Print the rates as JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peaks")
    parser.parse_args(argv)
    print(json.dumps(asdict(measure()), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
