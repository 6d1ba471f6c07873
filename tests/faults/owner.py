"""`mpcc run` whose parties and whose own end see each other through a relay.

``python -m tests.faults.owner PLAN.json run M.mpcc ...`` is the command line with three changes to
what a session writes and starts: every endpoint gets a cluster file of its own in which its peers'
addresses are the relay's; process ids and what parties print go to files of the plan's folder; the
relay is told when a phase ends. One party may be another program, runtime_native/party/faulty.cc.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from mpcc import cli
from mpcc.runtime import native
from mpcc.runtime.cluster import OWNER, Cluster
from mpcc.runtime.party import Party
from mpcc.runtime.session import Session


class _Relay:
    """The control connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")

    def tell(self, order: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        self._answers.readline()


def main(plan: dict[str, Any]) -> None:
    """Runs the command line in ``sys.argv``.

    Args:
        plan: ``folder``; ``control`` port; ``views``, by endpoint and peer the relay's port;
            ``connect_deadline``; ``faulty``, a list of the party's name, its program and arguments,
            or None.
    """
    folder = Path(plan["folder"])
    relay = _Relay(plan["control"])
    write, start, guard = Cluster.write, Party.start, Session._guard
    party_program = native.party_program

    def write_views(self: Cluster, path: Path) -> None:
        write(self, path)
        data = json.loads(path.read_text())
        data["connect_deadline_s"] = plan["connect_deadline"]
        relay.tell({"ports": {e.name: e.port for e in self.endpoints}})
        for name, ports in plan["views"].items():
            for endpoint in data["endpoints"]:
                endpoint["port"] = ports.get(endpoint["name"], endpoint["port"])
            own = path if name == OWNER else path.with_name(f"{name}.json")
            own.write_text(json.dumps(data))
            own.chmod(0o600)

    def start_watched(self: Party, artifact: Path, cluster: Path, index: int) -> None:
        self._errors.close()
        self._errors = (folder / f"{self.name}.err").open("w+b")
        faulty = plan["faulty"]
        program = party_program
        if faulty is not None and faulty[0] == self.name:

            def program() -> Any:
                return faulty[1]

        with mock.patch.object(native, "party_program", program):
            start(self, artifact, cluster.with_name(f"{self.name}.json"), index)
        (folder / f"{self.name}.pid").write_text(str(self.pid))

    def guard_and_tell(self: Session, doing: str, action: Callable[[], Any]) -> Any:
        result = guard(self, doing, action)
        relay.tell({"done": doing})
        return result

    (folder / f"{OWNER}.pid").write_text(str(os.getpid()))
    with (
        mock.patch.object(Cluster, "write", write_views),
        mock.patch.object(Party, "start", start_watched),
        mock.patch.object(Session, "_guard", guard_and_tell),
    ):
        cli.main()


if __name__ == "__main__":
    found = json.loads(Path(sys.argv.pop(1)).read_text())
    main(found)
