"""A session on one machine with TensorFlow as the engine: four processes, started from here.

Two forms. *Servers*: one ``tf.distribute.Server`` per place and one graph with devices, which the
owner's process runs as TensorFlow's master; :data:`mpcc.runtime.exposure.PROTECTION` says what that
means. *Sessions*: every endpoint runs its own part in a TensorFlow session of its own, and messages
go over the engine's TLS connections. In both, keys are agreed on over TLS.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES
from mpcc.runtime import native
from mpcc.runtime.certificates import issue, write_private
from mpcc.runtime.cluster import OWNER, Cluster
from mpcc.runtime.exposure import check_addresses
from mpcc.runtime.tensorflow import op_library
from mpcc.runtime.tensorflow_party import read_frame, write_frame

__all__ = ["PLACES_OF", "Graphs", "TensorflowSession"]

Array = npt.NDArray[Any]

PLACES_OF: dict[str, tuple[str, ...]] = {**{p: (p,) for p in COMPUTE_PLACES}, OWNER: OWNER_PLACES}
"""The places of every endpoint of a local session."""

_JOBS = {"client": ("client", 0), "model": ("model", 0)} | {
    place: ("party", i) for i, place in enumerate(COMPUTE_PLACES)
}
_START = 300.0  # seconds: four processes import TensorFlow
_GRACE = 5.0
#: gRPC would take connections between the processes to a proxy.
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


@dataclass(frozen=True)
class Graphs:
    """A program as TensorFlow takes it, from :mod:`mpcc.emit.tensorflow`.

    Attributes:
        program: bytes of the program, without calls.
        parts: (graph, nodes of the setup, nodes of a run) by endpoint: of every endpoint its part,
            or of the owner alone the whole graph, which then needs servers.
        outputs: ``name``, ``place``, ``shape``, ``online`` of every output.
        places: of every input and weight.
    """

    program: bytes
    parts: Mapping[str, tuple[bytes, Sequence[str], Sequence[str]]]
    outputs: Sequence[Mapping[str, Any]]
    places: Mapping[str, str]


def _free_ports(n: int) -> list[int]:
    """Ports that are free now: TensorFlow's server takes a number, not a socket."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _environment(preload: Path | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k.lower() not in _PROXIES and k != "TF_CONFIG"}
    kept.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})
    if preload is not None:
        kept["LD_PRELOAD"] = " ".join(filter(None, [str(preload), kept.get("LD_PRELOAD", "")]))
    return kept


@dataclass
class _Process:
    name: str
    listener: socket.socket | None
    process: subprocess.Popen[bytes] | None = None
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    failure: Diagnostic | None = None

    @property
    def port(self) -> int:
        return 0 if self.listener is None else int(self.listener.getsockname()[1])

    def start(self, folder: Path, environment: Mapping[str, str]) -> None:
        descriptor = -1 if self.listener is None else self.listener.fileno()
        module = "mpcc.runtime.tensorflow_party"
        command = [sys.executable, "-m", module, str(folder), self.name, str(descriptor)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                pass_fds=() if self.listener is None else (descriptor,),
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise MpccError.of("E-party-start", str(error), self.name) from None
        if self.listener is not None:
            self.listener.close()

    def streams(self) -> tuple[IO[bytes], IO[bytes]]:
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            raise MpccError.of("E-party-start", "it was not started", self.name)
        return self.process.stdin, self.process.stdout

    def complaint(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ended(self) -> Diagnostic:
        """Why there is no answer any more."""
        if self.process is None:
            return Diagnostic("E-party-failed", "it was not started", self.name)
        try:
            code = self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return Diagnostic("E-party-failed", "it has stopped answering", self.name)
        if code < 0:
            name = signal.Signals(-code).name
            return Diagnostic("E-net-lost", f"the process of {self.name} was ended by {name}")
        return Diagnostic("E-party-failed", self.complaint() or f"exit code {code}", self.name)

    def stop(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        self.errors.close()


class TensorflowSession:
    """Four processes with TensorFlow for this session; a context manager.

    Entering starts and connects them and runs the setup; leaving ends them. A session whose run
    failed is over.

    Args:
        graphs: the program.
        weights: ring words by weight name.
        servers: whether the processes are servers of one distributed session.
        threads: of each process's session, besides the one that may wait for a message.
        deadline: seconds that any one message may take.
        run_limit: seconds that the setup or a run may take.
        network: ``none``, or ``lan`` or ``wan`` imitated on every TLS link; not with servers.
        max_memory: bytes that an endpoint may need by the engine's plan; None: as for the engine.
        max_work: multiply-adds of a run; None: as for the engine.

    Raises:
        MpccError: ``E-tf...``, ``E-limit...``, ``E-party...`` or ``E-net...``.
    """

    def __init__(
        self,
        graphs: Graphs,
        weights: Mapping[str, Array],
        *,
        servers: bool,
        threads: int = 1,
        deadline: float = 10.0,
        run_limit: float = 3600.0,
        network: str = "none",
        max_memory: int | None = None,
        max_work: int | None = None,
    ) -> None:
        self.graphs = graphs
        self.setup_seconds = 0.0
        self.processes: dict[str, _Process] = {}
        self._weights = weights
        self._servers = servers
        self._settings = (deadline, network, threads, max_memory, max_work)
        self._run_limit = run_limit
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._runs = 0
        self._constant: dict[str, Array] = {}

    def __enter__(self) -> TensorflowSession:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        library = op_library()
        native.engine()
        # A directory of mode 0700: it holds the session's private keys.
        self._directory = tempfile.TemporaryDirectory(prefix="mpcc-")
        folder = Path(self._directory.name)
        for place in COMPUTE_PLACES:
            listener = socket.create_server(("127.0.0.1", 0), backlog=8)
            self.processes[place] = _Process(place, listener)
        self.processes[OWNER] = _Process(OWNER, None)
        identities = issue(folder, list(self.processes))
        ports = {place: self.processes[place].port for place in COMPUTE_PLACES}
        cluster = Cluster.local(identities, ports, *self._settings, run_limit=self._run_limit)
        cluster.write(folder / "cluster.json")
        jobs: dict[str, list[str]] | None = None
        if self._servers:
            jobs = {}
            numbers = iter(_free_ports(len(_JOBS)))
            for place in (*COMPUTE_PLACES, *OWNER_PLACES):
                jobs.setdefault(_JOBS[place][0], []).append(f"127.0.0.1:{next(numbers)}")
            check_addresses(jobs)
        self._describe(folder, cluster, jobs)
        environment = _environment(library.with_name("libmpcc_loopback.so") if jobs else None)
        for process in self.processes.values():
            process.start(folder, environment)
        self._answers("starting", self.processes, _START)
        # Everybody has read its key; a process that is killed from now on leaves none behind.
        for identity in identities.values():
            identity.key.unlink()
        words = {
            name: np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
            for name, array in self._weights.items()
        }
        self._give(words)
        start = time.perf_counter()
        _, self._constant = self._phase(0)
        self.setup_seconds = time.perf_counter() - start

    def _describe(
        self, folder: Path, cluster: Cluster, jobs: Mapping[str, Sequence[str]] | None
    ) -> None:
        write_private(folder / "program.pb", self.graphs.program)
        endpoints = {}
        for name, places in PLACES_OF.items():
            part = self.graphs.parts.get(name)
            file = "" if part is None else f"{name}.pb"
            if part is not None:
                write_private(folder / file, part[0])
            endpoints[name] = {
                "index": cluster.index(name),
                "places": places,
                "tasks": [_JOBS[place] for place in places],
                "graph": file,
                "setup": [] if part is None else list(part[1]),
                "online": [] if part is None else list(part[2]),
            }
        description = {
            "endpoints": endpoints,
            "servers": jobs,
            "threads": cluster.threads,
            "outputs": [dict(o) for o in self.graphs.outputs],
        }
        write_private(folder / "session.json", json.dumps(description).encode())

    def _give(self, arrays: Mapping[str, Array]) -> None:
        by_place: dict[str, dict[str, Array]] = {}
        for name, array in arrays.items():
            if name not in self.graphs.places:
                raise MpccError.of("E-run-input", "the program has no such input or weight", name)
            by_place.setdefault(self.graphs.places[name], {})[name] = array
        for place, given in by_place.items():
            self._order({"do": "give", "place": place}, [OWNER], given)
            self._answers("giving inputs", [OWNER], self._run_limit)

    def _phase(self, run: int) -> tuple[float, dict[str, Array]]:
        doing = f"run {run}" if run else "sharing the weights"
        self._order({"do": "begin", "run": run}, self.processes)
        self._answers(doing, self.processes, self._run_limit)
        active = [name for name in self.processes if name in self.graphs.parts]
        self._order({"do": "step", "run": run}, active)
        answers = self._answers(doing, active, self._run_limit)
        head, outputs = answers[OWNER]
        return float(head["seconds"]), outputs

    def run(self, inputs: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        """One run, with keys of its own.

        Args:
            inputs: float32 arrays by input name.

        Returns:
            Seconds, from agreed keys to opened outputs, and the outputs by name (float32).

        Raises:
            MpccError: a party failed; names it. The session is over then.
        """
        self._give({n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()})
        self._runs += 1
        seconds, outputs = self._phase(self._runs)
        return seconds, {**self._constant, **outputs}

    def figures(self) -> dict[str, dict[str, Any]]:
        """What every endpoint has sent over TLS, and its peak memory, by endpoint name."""
        self._order({"do": "figures"}, self.processes)
        answers = self._answers("asking for figures", self.processes, self._run_limit)
        return {name: head for name, (head, _) in answers.items()}

    def _order(
        self,
        order: Mapping[str, Any],
        names: Iterable[str],
        arrays: Mapping[str, Array] | None = None,
    ) -> None:
        for name in names:
            try:
                write_frame(self.processes[name].streams()[0], order, arrays)
            except BrokenPipeError:
                continue  # the answer that does not come says why

    def _answers(
        self, doing: str, names: Iterable[str], limit: float
    ) -> dict[str, tuple[dict[str, Any], dict[str, Array]]]:
        """One answer of each; of others, what ends the session, and that they are there.

        In a step of TensorFlow's servers nobody waits for a message of a party with a deadline, so
        parties that only serve are asked now and then whether they still answer.
        """
        waiting = dict.fromkeys(names)
        deadline = self._settings[0]
        asked: dict[str, float] = {}  # processes that have not answered, and since when
        next_asking = time.monotonic() + deadline / 2
        end = time.monotonic() + limit
        found: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {}
        by_stream = {p.streams()[1]: p for p in self.processes.values()}
        while waiting:
            now = time.monotonic()
            silent = [name for name, since in asked.items() if now - since > deadline]
            if silent or now > end:
                late, limit = (silent, deadline) if silent else (list(waiting), limit)
                text = f"no answer within {limit:g} s: {', '.join(late)}"
                raise MpccError.of("E-net-timeout", text, doing)
            if now > next_asking:
                idle = [n for n in self.processes if n not in waiting and n not in asked]
                self._order({"do": "ping"}, idle)
                asked.update(dict.fromkeys(idle, now))
                next_asking = now + deadline / 2
            left = max(0.0, min(end, next_asking) - now)
            ready, _, _ = select.select(list(by_stream), [], [], min(left, deadline / 4))
            for stream in ready:
                process = by_stream[stream]
                frame = read_frame(stream)
                if frame is None or "error" in frame[0]:
                    self._fail(process, frame, doing, by_stream)
                elif frame[0]["done"] == "ping":
                    asked.pop(process.name, None)
                else:
                    found[process.name] = frame
                    waiting.pop(process.name, None)
        return found

    def _fail(
        self,
        process: _Process,
        frame: tuple[dict[str, Any], dict[str, Array]] | None,
        doing: str,
        by_stream: Mapping[IO[bytes], _Process],
    ) -> None:
        """Hear what the others have to say, and raise: first of a process that has just gone."""
        end = time.monotonic() + min(_GRACE, self._settings[0])
        left = dict(by_stream)
        heard = [(process, frame)]
        left.pop(process.streams()[1])
        while left and (seconds := end - time.monotonic()) > 0:
            for stream in select.select(list(left), [], [], seconds)[0]:
                more = read_frame(stream)
                if more is not None and "error" not in more[0]:
                    continue  # an answer that nobody needs any more
                heard.append((left.pop(stream), more))
        gone, told = [], []
        for one, last in heard:
            if last is None:
                one.failure = one.ended()
                gone.append(one.failure)
            else:
                error = last[0]["error"]
                where = error["where"] or f"{one.name}, {doing}"
                one.failure = Diagnostic(error["code"], error["what"], where, error.get("fix", ""))
                told.append(one.failure)
        raise MpccError(*gone, *told)

    def close(self) -> None:
        """End the processes. Idempotent."""
        for process in self.processes.values():
            if process.process is not None and process.process.poll() is None:
                self._order({"do": "close"}, [process.name])
        end = time.monotonic() + _GRACE
        for process in self.processes.values():
            if process.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it is stopped below
                    process.process.wait(max(0.0, end - time.monotonic()))
            process.stop()
            if process.listener is not None:
                process.listener.close()
        self.processes = {}
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "servers" if self._servers else "sessions"
        return f"<TensorflowSession with {kind}, {'open' if self.processes else 'closed'}>"
