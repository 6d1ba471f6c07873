"""``mpcc run --engine tensorflow`` and ``tensorflow-sessions``: a program on stock TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mpcc.api.data import Array
from mpcc.artifact import Artifact
from mpcc.emit.graphdef import local_type, parse
from mpcc.emit.tensorflow import for_tensorflow, part_for_tensorflow, without_calls
from mpcc.errors import MpccError
from mpcc.ir import budget
from mpcc.ir.encodings import encoded
from mpcc.ir.schedule import ONLINE, SETUP, Schedule, schedule
from mpcc.ir.types import ClearType
from mpcc.runtime.cluster import OWNER
from mpcc.runtime.owners import finished_outputs, prepared_inputs
from mpcc.runtime.tensorflow_session import PLACES_OF, Graphs, TensorflowSession

__all__ = ["FORMS", "given_inputs", "graphs_of", "open_session", "run"]

FORMS = {"tensorflow": True, "tensorflow-sessions": False}
"""Engines by name: whether TensorFlow's servers carry the messages."""


def graphs_of(program: bytes, *, servers: bool) -> Graphs:
    """What the processes of a session run.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`.
    """
    flat = without_calls(program)
    module = parse(flat)
    steps = schedule(module).steps
    outputs, places = [], {}
    for step in steps:
        op = step.op
        if op.name == "party.output":
            type_ = local_type(op.operands[0].type)
            if not isinstance(type_, ClearType):
                raise MpccError.of("E-tf-output", f"an output of type {type_}", op.loc)
            opened = {"name": op.attrs["name"], "place": step.place, "shape": list(type_.shape)}
            outputs.append({**opened, "online": step.phase == ONLINE})
        if op.name in ("party.input", "party.weight"):
            places[str(op.attrs["name"])] = step.place
    if servers:
        setup = [f"n{s.index}" for s in steps if s.phase == SETUP]
        online = [f"n{s.index}" for s in steps if s.phase == ONLINE]
        parts = {OWNER: (for_tensorflow(flat), setup, online)}
    else:
        made = {name: part_for_tensorflow(flat, hosted) for name, hosted in PLACES_OF.items()}
        parts = {name: (p.graph, list(p.setup), list(p.online)) for name, p in made.items()}
    return Graphs(flat, parts, outputs, places)


def open_session(program: bytes, weights: Mapping[str, Array], **options: Any) -> TensorflowSession:
    """A session that is not entered yet; ``options`` as of :class:`TensorflowSession`."""
    graphs = graphs_of(program, servers=options["servers"])
    return TensorflowSession(graphs, weights, **options)


def given_inputs(
    artifact: Artifact,
    data: Mapping[str, Array],
    max_memory: int | None = None,
    max_work: int | None = None,
) -> dict[str, Array]:
    """Inputs as the program takes them: prepared by their owners, rows by number written out."""
    ports = {port["name"]: port for port in artifact.inputs}
    ready = prepared_inputs(artifact, data, max_memory, max_work)
    return {
        name: np.ascontiguousarray(encoded(np.asarray(array), ports.get(name, {})), np.float32)
        for name, array in ready.items()
    }


def _sent(found: Schedule, phase: str) -> tuple[int, dict[str, int]]:
    """(rounds, bytes by link) of a phase."""
    links: dict[str, int] = {}
    rounds = 0
    for message in found.messages:
        if message.phase == phase:
            links[message.link] = links.get(message.link, 0) + message.nbytes
            rounds = max(rounds, message.depth)
    return rounds, links


def run(
    artifact: Artifact,
    words: Mapping[str, Array],
    data: Mapping[str, Array],
    *,
    engine: str,
    network: str,
    repeat: int,
    threads: int,
    deadline: float,
    run_limit: float,
    max_memory: int | None,
    max_work: int | None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The last run's outputs, and the figures of ``stats.json``; see ``api.run_local``."""
    servers = FORMS[engine]
    if servers and network != "none":
        raise MpccError.of(
            "E-option-network",
            "TensorFlow's own connections do not imitate a network",
            "--network",
            "use --engine tensorflow-sessions or native",
        )
    module = parse(artifact.program)
    budget.check(module, max_memory, max_work)
    given = given_inputs(artifact, data, max_memory, max_work)
    with open_session(
        artifact.program,
        words,
        servers=servers,
        threads=threads,
        deadline=deadline,
        run_limit=run_limit,
        network=network,
        max_memory=max_memory,
        max_work=max_work,
    ) as live:
        runs = [live.run(given) for _ in range(repeat)]
        told = live.figures()
        plan = schedule(module)
        rounds, links = _sent(plan, ONLINE)
        setup_rounds, setup_links = _sent(plan, SETUP)
        wire = payload = None  # TensorFlow does not count what its own connections carry
        if not servers:
            wire = sum(f["wire_bytes_sent"] for f in told.values())
            payload = sum(sum(f["payload_bytes_sent"].values()) for f in told.values())
        figures = {
            "engine": engine,
            "protocol": artifact.protocol,
            "network": network,
            "online_seconds": [seconds for seconds, _ in runs],
            "setup_seconds": live.setup_seconds,
            "rounds": rounds,
            "bytes_sent": links,
            "setup_rounds": setup_rounds,
            "setup_bytes_sent": setup_links,
            "wire_bytes": wire,
            "session_payload_bytes": payload,
            "peak_rss_bytes": [told[name]["peak_rss_bytes"] for name in PLACES_OF if name != OWNER],
            "threads": threads,
        }
        outputs = runs[-1][1]
    return finished_outputs(artifact, outputs, max_memory, max_work), figures
