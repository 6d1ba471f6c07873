"""A session on one machine: three party processes and this one, over mutual TLS 1.3."""

from __future__ import annotations

import ctypes
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError
from mpcc.files import atomic_write
from mpcc.ir.encodings import encoded
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.runtime import native
from mpcc.runtime.certificates import issue
from mpcc.runtime.cluster import OWNER, Cluster
from mpcc.runtime.owners import finished_outputs, prepared_inputs
from mpcc.runtime.party import Party
from mpcc.runtime.trace import merge

__all__ = ["Run", "Session", "forbid_core_dumps"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")

_GRACE = 5.0
_PR_SET_DUMPABLE = 4  # prctl(2); also where core_pattern is a program, which no limit binds


@dataclass(frozen=True)
class Run:
    """One run's outputs by name: float32 arrays, or of truth values (bool) or positions (int64)."""

    outputs: dict[str, Array] = field(repr=False)


def forbid_core_dumps() -> None:
    """No core file of this process, and no debugger: inputs, weights and keys are in its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Session:
    """Three parties started for this session, with this process as client and model owner.

    Use as a context manager. Entering starts the processes, connects, and shares the weights;
    leaving ends all of them. A session whose run failed is over: its keys are never used again.

    Args:
        artifact: the program.
        weights: ring words by weight name.
        network: ``none``, or ``lan`` or ``wan`` imitated on every link.
        threads: compute threads of each party.
        deadline: seconds that any one message may take.
        run_limit: seconds that a run, or the setup, may take.
        max_memory: bytes that an endpoint may need; a program that needs more is refused before
            anything is allocated (``E-limit-…``). None: what ``docs/engine.md`` says.
        max_work: multiply-adds that an endpoint may do in a run; likewise.
        trace: file for what every endpoint did when, as Chrome trace events, written at the end.

    Raises:
        MpccError: ``E-limit-…``, ``E-native-…``, ``E-party-…`` or ``E-net-…``; names party
            and step.
    """

    def __init__(
        self,
        artifact: Artifact,
        weights: Mapping[str, Array],
        *,
        network: str = "none",
        threads: int = 1,
        deadline: float = 10.0,
        run_limit: float = 3600.0,
        max_memory: int | None = None,
        max_work: int | None = None,
        trace: Path | str | None = None,
    ) -> None:
        self.artifact = artifact
        self.parties: tuple[Party, ...] = ()
        self._weights = weights
        self._network = network
        self._threads = threads
        self._deadline = deadline
        self._run_limit = run_limit
        self._limits = (max_memory, max_work)
        self._trace = None if trace is None else Path(trace)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._endpoint: Any = None

    def __enter__(self) -> Session:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        engine = native.engine()
        # A directory of mode 0700: it holds the session's private keys.
        self._directory = tempfile.TemporaryDirectory(prefix="mpcc-")
        folder = Path(self._directory.name)
        self.parties = tuple(Party(name) for name in COMPUTE_PLACES)
        identities = issue(folder, [*COMPUTE_PLACES, OWNER])
        cluster = Cluster.local(
            identities,
            {p.name: p.port for p in self.parties},
            self._deadline,
            self._network,
            self._threads,
            *self._limits,
            traces=self._trace is not None,
            run_limit=self._run_limit,
        )
        config, program = folder / "cluster.json", folder / "program.mpcc"
        cluster.write(config)
        self.artifact.save(program)
        for party in self.parties:
            party.start(program, config, cluster.index(party.name))
        self._endpoint = self._guard(
            "connecting",
            lambda: engine.OwnerEndpoint(self.artifact.program, str(config), cluster.index(OWNER)),
        )
        # Everybody has read its key; a process that is killed from now on leaves none behind.
        for identity in identities.values():
            identity.key.unlink()
        words = {
            name: np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
            for name, array in self._weights.items()
        }
        self._guard("sharing the weights", lambda: self._endpoint.setup(words))

    def run(self, inputs: Mapping[str, Array]) -> Run:
        """One run, with keys of its own.

        Args:
            inputs: float32 arrays by input name, in the program's shapes and ranges; numbers of
                rows may be given in place of one-hot rows. Of inputs that their owners prepare, the
                model's own: they are prepared here.

        Raises:
            MpccError: a party failed; names it and the step. The session is over then.
            ValueError: numbers of rows that a table does not have.
        """
        if self._endpoint is None:
            raise MpccError.of("E-session-closed", "the session is not open")
        ports = {port["name"]: port for port in self.artifact.inputs}
        ready = prepared_inputs(self.artifact, inputs, *self._limits)
        given = {n: encoded(np.asarray(a), ports.get(n, {})) for n, a in ready.items()}
        data = {n: np.ascontiguousarray(a, dtype=np.float32) for n, a in given.items()}
        outputs = self._guard("running", lambda: self._endpoint.run(data))
        return Run(finished_outputs(self.artifact, outputs, *self._limits))

    def _guard(self, doing: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except native.engine().NativeError as error:
            found = native.translate(error, doing)
        # What the parties themselves say is the cause more often than what reached this end.
        own = [
            Diagnostic("E-party-failed", party.complaint(), party.name)
            for party in self.parties
            if party.wait(0.5) and party.exit_code and party.complaint()
        ]
        # A limit is refused by everybody at once, and nobody was called.
        limit = next((p.failure() for p in self.parties if p.limit_exceeded()), None)
        if limit and found.code != limit["code"]:
            found = native.reported(limit)
        raise MpccError(*found.diagnostics, *own) from None

    def statistics(self, runs: Sequence[Run]) -> dict[str, Any]:
        """The figures of ``stats.json``; ends the session, since parties report at their end.

        Args:
            runs: the runs that were made in this session.
        """
        own = json.loads(self._endpoint.statistics())
        self._guard("ending the session", self._endpoint.close)
        self._wait_for_parties()
        reports = [party.statistics() for party in self.parties]
        figures = own["runs"][-len(runs) :] if runs else []
        return {
            "engine": "native",
            "protocol": self.artifact.protocol,
            "network": self._network,
            "online_seconds": [r["seconds"] for r in figures],
            "setup_seconds": own["setup"]["seconds"],
            "rounds": figures[-1]["rounds"] if figures else 0,
            "bytes_sent": figures[-1]["bytes_sent"] if figures else {},
            "setup_rounds": own["setup"]["rounds"],
            "setup_bytes_sent": own["setup"]["bytes_sent"],
            "wire_bytes": own["wire_bytes_sent"]
            + sum(r.get("wire_bytes_sent", 0) for r in reports),
            "planned_bytes": [r.get("planned_bytes") for r in reports],
            "planned_work": [r.get("planned_work") for r in reports],
            "allocated_bytes": [r.get("allocated_bytes") for r in reports],
            "peak_rss_bytes": [r.get("peak_rss_bytes") for r in reports],
            "threads": self._threads,
        }

    def _wait_for_parties(self) -> None:
        """A moment to end by themselves, one for all: a paused party must not cost three."""
        end = time.monotonic() + min(_GRACE, self._deadline)
        for party in self.parties:
            party.wait(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """End the session and its processes. Idempotent."""
        if self._endpoint is not None:
            try:
                self._endpoint.close()
                self._wait_for_parties()
            except native.engine().NativeError:
                # It is over already; whoever failed has been reported by the call that noticed.
                pass
            self._endpoint = None
        for party in self.parties:
            party.stop()
        if self._trace is not None and self._directory is not None:
            merged = merge(Path(self._directory.name).glob(Cluster.trace_file("*")))
            with atomic_write(self._trace) as file:
                file.write(merged.encode())
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session of {self.artifact!r}, {'open' if self._endpoint else 'closed'}>"
