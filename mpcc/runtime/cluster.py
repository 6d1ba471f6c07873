"""A cluster's description: who takes part, where, and with which identities.

The file format is the native party's (runtime_native/graph/session.h): JSON with the endpoints in
an order that is the same everywhere. Of two endpoints the one with the lower index listens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES
from mpcc.runtime.certificates import Identity, write_private

__all__ = ["OWNER", "Cluster", "Endpoint"]

OWNER = "owner"
"""Name of the endpoint that is client and model owner of a local run."""


@dataclass(frozen=True)
class Endpoint:
    """A process that hosts places.

    Attributes:
        name: what its certificate says.
        places: places that it runs.
        host: where the others reach it; empty if nobody calls it.
        port: TCP port on that host.
        identity: its PEM files.
    """

    name: str
    places: tuple[str, ...]
    host: str
    port: int
    identity: Identity

    def to_json(self) -> dict[str, Any]:
        """Its entry in the cluster file."""
        return {
            "name": self.name,
            "places": list(self.places),
            "host": self.host,
            "port": self.port,
            "cert": str(self.identity.certificate),
            "key": str(self.identity.key),
        }


@dataclass(frozen=True)
class Cluster:
    """All endpoints and the settings that they share.

    Attributes:
        endpoints: in the order of their indices.
        deadline: seconds that any one message may take.
        network: ``none``, ``lan`` or ``wan``, imitated on every link.
        threads: compute threads of each endpoint.
        max_memory: bytes that an endpoint may need; None leaves it to the endpoint.
        max_work: multiply-adds of a run; None leaves it to the endpoint.
        run_limit: seconds that a run may take, None leaves it to the endpoint.
        traces: whether every endpoint writes what it does when, to :meth:`trace_file`.
    """

    endpoints: tuple[Endpoint, ...]
    deadline: float = 10.0
    network: str = "none"
    threads: int = 1
    max_memory: int | None = None
    max_work: int | None = None
    traces: bool = False
    run_limit: float | None = None

    @classmethod
    def local(
        cls,
        identities: dict[str, Identity],
        ports: dict[str, int],
        deadline: float,
        network: str,
        threads: int,
        max_memory: int | None = None,
        max_work: int | None = None,
        traces: bool = False,
        run_limit: float | None = None,
    ) -> Cluster:
        """Three parties and the owner on the loopback interface; ``ports`` are the parties'."""
        parties = tuple(
            Endpoint(p, (p,), "127.0.0.1", ports[p], identities[p]) for p in COMPUTE_PLACES
        )
        owner = Endpoint(OWNER, OWNER_PLACES, "", 0, identities[OWNER])
        return cls(
            (*parties, owner), deadline, network, threads, max_memory, max_work, traces, run_limit
        )

    def index(self, name: str) -> int:
        """Index of the endpoint of that name."""
        return [e.name for e in self.endpoints].index(name)

    @staticmethod
    def trace_file(name: str) -> str:
        """The trace of the endpoint of that name, beside the cluster file."""
        return f"{name}.trace.json"

    def write(self, path: Path) -> None:
        """Write the cluster file, readable by its owner only."""
        data: dict[str, Any] = {
            "endpoints": [e.to_json() for e in self.endpoints],
            "ca": str(self.endpoints[0].identity.authority),
            "deadline_s": self.deadline,
            "connect_deadline_s": max(self.deadline, 10.0),
            "network": self.network,
            "threads": self.threads,
        }
        if self.max_memory is not None:
            data["max_memory"] = self.max_memory
        if self.max_work is not None:
            data["max_work"] = self.max_work
        if self.run_limit is not None:
            data["run_limit_s"] = self.run_limit
        if self.traces:
            for entry in data["endpoints"]:
                entry["trace"] = self.trace_file(entry["name"])
        write_private(path, json.dumps(data, indent=1).encode())
