"""The process of one endpoint of ``mpcc run --engine tensorflow`` or ``tensorflow-sessions``.

Started by :mod:`mpcc.runtime.tensorflow_session`, which sends orders over standard input and reads
answers from standard output, one frame each: a line of JSON, and arrays where it announces some.
When the session is over for another reason than an order, because a peer is gone or an op has
failed, the process says why in an answer of its own and ends.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.runtime.session import forbid_core_dumps
from mpcc.runtime.tensorflow import Endpoint, load, session_config, start_servers

__all__ = ["main", "read_frame", "write_frame"]

Array = npt.NDArray[Any]

_LOOK = 0.1  # seconds between two looks at the connections


def write_frame(
    stream: IO[bytes], head: Mapping[str, Any], arrays: Mapping[str, Array] | None = None
) -> None:
    """An order or an answer; ``arrays`` by name."""
    data = io.BytesIO()
    names = list(arrays or {})
    if arrays:
        np.savez(data, *(arrays[name] for name in names))
    line = {**head, "names": names, "bytes": len(data.getvalue())}
    stream.write(json.dumps(line).encode() + b"\n" + data.getvalue())
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """The next frame, None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    data = stream.read(head["bytes"])
    if len(data) != head["bytes"]:
        return None
    if not head["names"]:
        return head, {}
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return head, {name: found[f"arr_{i}"] for i, name in enumerate(head["names"])}


class _Party:
    """What the process has: its endpoint, its server or its part, and a session that runs nodes."""

    def __init__(self, folder: Path, name: str, listen_fd: int) -> None:
        import tensorflow as tf

        load()
        description = json.loads((folder / "session.json").read_text())
        self.own = description["endpoints"][name]
        distributed = description["servers"] is not None
        self.outputs = [o for o in description["outputs"] if o["place"] in self.own["places"]]
        self.endpoint = Endpoint(
            (folder / "program.pb").read_bytes(),
            folder / "cluster.json",
            self.own["index"],
            self.own["places"],
            listen_fd=listen_fd,
            keys_only=distributed,
        )
        self.servers: list[Any] = []
        target = ""
        if distributed:
            self.servers = start_servers(description["servers"], self.own["tasks"])
            target = self.servers[0].target
        self.session: Any = None
        if self.own["graph"]:
            graph = tf.Graph()
            data = (folder / self.own["graph"]).read_bytes()
            with graph.as_default():
                tf.import_graph_def(tf.compat.v1.GraphDef.FromString(data), name="")
            config = session_config() if distributed else session_config(description["threads"] + 1)
            self.session = tf.compat.v1.Session(target, graph=graph, config=config)

    def give(self, given: Mapping[str, Mapping[str, Array]]) -> None:
        for place, arrays in given.items():
            for name, array in arrays.items():
                self.endpoint.places[place].give(name, array)

    def step(self, run: int) -> tuple[float, dict[str, Array]]:
        """Run the nodes of a phase: (seconds, outputs that it gives)."""
        start = time.perf_counter()
        if self.session is not None:
            graph = self.session.graph
            names = self.own["online"] if run else self.own["setup"]
            self.session.run([graph.get_operation_by_name(name) for name in names])
        seconds = time.perf_counter() - start
        opened = [o for o in self.outputs if o["online"] == (run != 0)]
        return seconds, {
            o["name"]: self.endpoint.places[o["place"]].output(o["name"], tuple(o["shape"]))
            for o in opened
        }

    def figures(self) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return {**self.endpoint.statistics(), "peak_rss_bytes": int(peak) * 1024}


def _told(error: Exception) -> dict[str, str]:
    """An error as an answer; of TensorFlow's, the op's own words come first."""
    if isinstance(error, MpccError):
        first = error.diagnostics[0]
        return {
            "code": first.code,
            "what": first.what,
            "where": first.where,
            "fix": first.fix,
        }
    text = str(error).strip().splitlines()
    code, found, what = (text[0] if text else repr(error)).partition(": ")
    if found and code.startswith("E-"):
        return {"code": code, "what": what, "where": ""}
    return {"code": "E-tf", "what": text[0] if text else repr(error), "where": ""}


class _Answers:
    """Standard output: one answer at a time, and none after the last."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, head: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
        with self._lock:
            write_frame(self._stream, head, arrays)

    def end(self, error: Exception) -> None:
        """Say why the session is over, and end the process: TensorFlow's threads may be stuck."""
        with self._lock:
            told = _told(error)
            sys.stderr.write(f"{told['code']}: {told['what']}\n")
            sys.stderr.flush()
            try:
                write_frame(self._stream, {"error": told})
            finally:
                os._exit(1)


def _watch(party: _Party, answers: _Answers) -> None:
    """Look whether the peers are there, since nobody else does while TensorFlow is at work."""
    while True:
        time.sleep(_LOOK)
        try:
            party.endpoint.check()
        except MpccError as error:
            if error.diagnostics[0].code in ("E-net-closed", "E-tf-usage"):
                return  # the session ends in order
            answers.end(error)


def main() -> None:
    """Arguments: the session's directory, the endpoint's name, its listening socket or -1."""
    forbid_core_dumps()
    # Whatever else writes to standard output must not stand between answers.
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    party: _Party | None = None
    try:
        party = _Party(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
        threading.Thread(target=_watch, args=(party, answers), daemon=True).start()
        answers.write({"done": "start"})
        while (frame := read_frame(sys.stdin.buffer)) is not None:
            order, arrays = frame
            match order["do"]:
                case "give":
                    party.give({order["place"]: arrays})
                    answers.write({"done": "give"})
                case "begin":
                    party.endpoint.begin(order["run"])
                    answers.write({"done": "begin"})
                case "step":
                    seconds, outputs = party.step(order["run"])
                    answers.write({"done": "step", "seconds": seconds}, outputs)
                case "ping":
                    answers.write({"done": "ping"})
                case "figures":
                    answers.write({"done": "figures", **party.figures()})
                case "close":
                    break
        party.endpoint.close()
    except Exception as error:
        answers.end(error)
    # Servers of TensorFlow's cannot be stopped otherwise.
    os._exit(0)


if __name__ == "__main__":
    main()
