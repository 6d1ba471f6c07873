"""One session with one fault: started, disturbed, watched until nothing of it is left, judged."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.faults.relay import ENDPOINTS, HANDSHAKE, ONLINE, Fault, Relay

__all__ = ["CONNECT_DEADLINE", "DEADLINE", "LIMIT", "Inside", "Model", "Outcome", "play"]

Arrays = Mapping[str, npt.NDArray[Any]]

DEADLINE = 2.0
"""Seconds that any one message may take (--deadline)."""
CONNECT_DEADLINE = 3.0
"""Seconds to connect in."""
LIMIT = 2 * DEADLINE + 5.0
"""Seconds from the fault until every survivor has ended. Who waits for an endpoint that waits for
others waits twice the deadline; the rest is for ending processes, paused ones too, on a busy
machine."""
TOLERANCE = 1e-2
"""Of an answer, against onnxruntime: what tests/e2e asks of an undisturbed run."""

PARTIES = ENDPOINTS[:3]


@dataclass(frozen=True)
class Model:
    """A compiled model with one input and its right answer."""

    name: str
    artifact: Path
    data: Path
    answer: Arrays


@dataclass(frozen=True)
class Inside:
    """A fault inside TLS: party ``link[0]`` runs ``program``, which spoils one frame to the other.

    Attributes:
        kind: as in runtime_native/party/faulty.cc.
        link: (from, to).
        message: number of the data frame on this link in the session.
        offset: of the byte (corrupt), or bytes left out (truncate).
        amount: seconds (delay).
        phase: where that frame is, for tables.
    """

    kind: str
    link: tuple[str, str]
    message: int
    phase: str
    offset: int = 0
    amount: float = 0.0

    def arguments(self) -> list[str]:
        """Of the faulty party, those of every party aside."""
        peer = ENDPOINTS.index(self.link[1])
        numbers = {"message": self.message, "offset": self.offset, "seconds": self.amount}
        return [
            f"--peer={peer}",
            f"--kind={self.kind}",
            *(f"--{k}={v}" for k, v in numbers.items()),
        ]


@dataclass
class Outcome:
    """What came of a session.

    Attributes:
        acted: whether the fault happened.
        verdict: ``answer`` (right), ``error``, or ``idle`` (the owner was paused between two orders
            and its parties waited for it, which they may).
        seconds: from the fault (inside TLS: from the start of the run) until the last survivor
            ended.
        problems: broken promises; empty if all were kept.
        said: by endpoint what a survivor said when it failed.
        seen: bytes by phase and direction.
    """

    acted: bool = False
    verdict: str = ""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    seen: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)

    @property
    def codes(self) -> str:
        """Error codes of the survivors, each once."""
        found = {c for text in self.said.values() for c in re.findall(r"E-[a-z-]+", text)}
        return " ".join(sorted(found))


def _alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _victim(fault: Fault | None) -> str:
    """The endpoint that is no survivor, or none."""
    return fault.victim if fault is not None and fault.kind in ("kill", "stop") else ""


def _pid(folder: Path, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((folder / f"{name}.pid").read_text())
    return None


def _step_is_named(text: str) -> bool:
    """A run and an op, message or activity of it; or what of connecting went wrong."""
    online = re.search(r"run \d+", text) and re.search(
        r"%|message \d+|frame|waiting for|agreeing|preparing|reporting|gathering|starting", text
    )
    session = re.search(r"waiting for run \d+|starting the session|ending the session", text)
    connecting = re.search(r"no connection with|handshake|certificate|TLS|first frame|hello", text)
    return bool(online or session or connecting)


def _missing(text: str) -> list[str]:
    """Fields that the line of JSON of a party's error lacks; nothing if it did not come to that."""
    for line in text.splitlines():
        if line.startswith("{"):
            error = json.loads(line)["error"]
            return [key for key in ("code", "party", "step") if not error.get(key)]
    return []


def play(
    model: Model,
    folder: Path,
    fault: Fault | None = None,
    inside: Inside | None = None,
    program: Path | None = None,
) -> Outcome:
    """Runs one session of ``model`` with at most one fault, and judges it.

    Args:
        model: what to run.
        folder: for everything that is written; must not exist.
        fault: on the wire.
        inside: inside TLS, by ``program``, the executable mpcc-party-faulty.
        program: see ``inside``.
    """
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    output = folder / "answer.npz"
    outcome = Outcome()
    faulty = None
    if inside is not None:
        script = folder / "faulty.sh"
        command = [str(program), *inside.arguments()]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o700)
        faulty = [inside.link[0], str(script)]
    with Relay(fault, folder) as relay, (folder / "owner.err").open("w+b") as errors:
        plan = {
            "folder": str(folder),
            "control": relay.control_port,
            "views": {name: relay.view(name) for name in ENDPOINTS},
            "connect_deadline": CONNECT_DEADLINE,
            "faulty": faulty,
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        arguments = [folder / "plan.json", "run", model.artifact, "--input", model.data]
        options = ["-o", output, "--trust-artifact", "--deadline", DEADLINE]
        owner = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.owner", *map(str, arguments + options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "400"},
        )
        try:
            _watch(relay, owner, folder, fault, outcome, inside)
        finally:
            _sweep(folder, owner)
        outcome.acted = relay.acted_at is not None or inside is not None
        outcome.seen = relay.bytes_seen()
    _judge(model, folder, output, owner.returncode, fault, inside, outcome)
    return outcome


def _watch(
    relay: Relay,
    owner: subprocess.Popen[bytes],
    folder: Path,
    fault: Fault | None,
    outcome: Outcome,
    inside: Inside | None,
) -> None:
    """Waits until all survivors have ended; notes who did not in time."""
    victim = _victim(fault)
    started = time.monotonic()

    def moment() -> float | None:
        """When it happened; inside TLS, when the run began, which is a little before."""
        return relay.acted_at if inside is None else relay.began.get(ONLINE)

    while moment() is None and owner.poll() is None:
        if time.monotonic() - started > 60:
            outcome.problems.append("the session neither ended nor came to the point")
            return
        time.sleep(0.01)

    def left() -> list[str]:
        alive = [n for n in PARTIES if (pid := _pid(folder, n)) is not None and _alive(pid)]
        if owner.poll() is None:
            alive.append("owner")
        return [n for n in alive if n != victim or fault is None or fault.kind == "kill"]

    since = moment() or time.monotonic()
    # A session that goes on unharmed takes its time; so does one that a slow link holds up while
    # bytes keep coming. The limit counts from the last byte or from the fault.
    while left():
        harmless = fault is not None and fault.kind in ("slow", "delay", "resume")
        origin = max(since, relay.last_byte) if harmless else since
        if time.monotonic() - origin > LIMIT or time.monotonic() - since > 40:
            break
        time.sleep(0.01)
    outcome.seconds = time.monotonic() - since
    late = left()
    if late and victim == "owner" and "owner" not in late:
        # Between two orders its parties wait for it, as for any owner with nothing to do.
        outcome.verdict = "idle"
        owner.kill()
        limit = time.monotonic() + LIMIT
        while left() and time.monotonic() < limit:
            time.sleep(0.01)
        late = left()
    if late:
        outcome.problems.append(f"still there after {outcome.seconds:.1f} s: {' '.join(late)}")


def _sweep(folder: Path, owner: subprocess.Popen[bytes]) -> None:
    """Ends what is left: a paused victim, or what broke its promise."""
    if owner.poll() is None:
        owner.kill()
    owner.wait()
    for name in PARTIES:
        pid = _pid(folder, name)
        if pid is not None and _alive(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _judge(
    model: Model,
    folder: Path,
    output: Path,
    code: int,
    fault: Fault | None,
    inside: Inside | None,
    outcome: Outcome,
) -> None:
    problems = outcome.problems
    victim = _victim(fault)
    for name in ENDPOINTS:
        with contextlib.suppress(FileNotFoundError):
            text = (folder / f"{name}.err").read_text(errors="replace").strip()
            lines = [s for s in text.splitlines() if not s.startswith("wrote ")]
            if lines and name != victim:
                outcome.said[name] = "\n".join(lines)
    for name, text in outcome.said.items():
        if "Traceback" in text or "terminate called" in text:
            problems.append(f"{name} crashed")
        others = [n for n in ENDPOINTS if n != name]
        if not any(n in text for n in others):
            problems.append(f"{name} names nobody")
        if not _step_is_named(text):
            problems.append(f"{name} names no step")
        problems.extend(f"{name}'s error as JSON has no {key}" for key in _missing(text))
    left = [path for path in (folder / "scratch").rglob("*") if path.is_file()]
    if (
        victim == "owner" and fault is not None
    ):  # a killed process removes nothing, but keys are gone once all have read
        left = [p for p in left if p.suffix == ".key"] if fault.phase != HANDSHAKE else []
    if left:
        problems.append(f"files are left: {' '.join(p.name for p in left)}")
    if output.exists():
        problems.extend(_compare(output, model.answer))
        if code not in (0, -signal.SIGKILL):
            problems.append(f"an answer was written and the exit code is {code}")
        outcome.verdict = outcome.verdict or "answer"
        return
    if code == 0:
        problems.append("exit code 0 and no answer")
    elif code != 3 and victim != "owner":
        problems.append(f"the owner's exit code is {code}")
    outcome.verdict = outcome.verdict or "error"
    # The owner's error carries what the parties said; without an owner they must say it themselves.
    silent = [n for n in (PARTIES if victim == "owner" else ("owner",)) if n not in outcome.said]
    if silent:
        problems.append(f"no word from {' '.join(silent)}")
    named = any(victim in text for text in outcome.said.values())
    # Before the first run nobody has declared anything, and waits are not told.
    stopped = fault is not None and fault.kind == "stop" and fault.phase != HANDSHAKE
    if fault is not None and (fault.kind == "kill" or stopped) and not named:
        problems.append(f"{victim} was hit by {fault.kind} and nobody says so")
    if inside is not None:
        ends = inside.link
    elif fault is not None and fault.kind in ("cut", "corrupt", "truncate", "duplicate", "swap"):
        ends = fault.link
    else:
        return
    if not any(end in text for end in ends for text in outcome.said.values()):
        problems.append("nobody names an end of the link")


def _compare(path: Path, answer: Arrays) -> list[str]:
    with np.load(path) as found:
        if set(found.files) != set(answer):
            return ["other outputs than the model's"]
        worst = max(float(np.abs(found[n] - answer[n]).max()) for n in answer)
    return [] if worst <= TOLERANCE else [f"WRONG ANSWER: off by {worst:.3g}"]
