"""A relay between the endpoints of a session that does one thing wrong at one chosen byte.

One listening socket per pair of endpoints; who connects is given the relay's address instead of
the peer's. Bytes are counted per link, direction and phase, so a point (phase, link, direction,
byte) is the same in every session of a program up to small differences in how TLS cuts records.

The process that drives the session tells the relay about phases over a control connection, a line
of JSON each, and waits for the answer; the relay answers when no byte has come for a moment, so
that bytes of one phase are not counted in the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["HANDSHAKE", "ONLINE", "PHASES", "SETUP", "Fault", "Link", "Relay"]

HANDSHAKE, SETUP, ONLINE, CLOSING = "handshake", "setup", "online", "closing"
PHASES = (HANDSHAKE, SETUP, ONLINE, CLOSING)

ENDPOINTS = ("P0", "P1", "P2", "owner")

Link = tuple[str, str]
"""(from, to): one direction of the connection of two endpoints."""

_CHUNK = 1 << 16
_QUIET = 0.02
_HISTORY = 64


@dataclass(frozen=True)
class Fault:
    """What happens, and where.

    Attributes:
        kind: ``kill``, ``stop``, ``resume`` (signals to ``victim``), ``cut``, ``delay``, ``slow``,
            ``corrupt``, ``truncate``, ``duplicate``, ``swap`` (to the bytes of one direction).
        phase: one of :data:`PHASES`.
        link: the direction whose bytes are counted and, unless it is a signal, spoilt.
        offset: bytes of this direction and phase that pass before it.
        amount: seconds (resume, delay), bytes per second (slow), the bit (corrupt), bytes
            (truncate, duplicate, swap), 1 for a reset and 0 for an end of stream (cut).
        victim: endpoint that gets the signal.
    """

    kind: str
    phase: str
    link: Link
    offset: int
    amount: float = 0.0
    victim: str = ""


@dataclass
class _Direction:
    """One direction of a link, over all connections that it had."""

    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    recent: bytes = b""
    drop: int = 0
    rate: float = 0.0


class Relay:
    """Runs in a thread of its own between ``with Relay(...) as relay`` and the end of the block.

    Args:
        fault: what to do, None for a relay that only counts.
        process_ids: where ``NAME.pid`` files of the endpoints are.

    Attributes:
        acted_at: when the fault happened (monotonic clock), None before.
        last_byte: when the last byte came.
        began: when each phase began, the handshake aside.
    """

    def __init__(self, fault: Fault | None, process_ids: Path) -> None:
        self.fault = fault
        self.acted_at: float | None = None
        self.began: dict[str, float] = {}
        self._process_ids = process_ids
        self._phase = 0
        self._targets: dict[str, int] = {}
        self.last_byte = 0.0
        self._directions: dict[Link, _Direction] = {}
        self._pairs: dict[Link, socket.socket] = {}
        for i, listening in enumerate(ENDPOINTS):
            for connecting in ENDPOINTS[i + 1 :]:
                self._pairs[connecting, listening] = socket.create_server(("127.0.0.1", 0))
                self._directions[connecting, listening] = _Direction()
                self._directions[listening, connecting] = _Direction()
        self._control = socket.create_server(("127.0.0.1", 0))
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay")

    @property
    def control_port(self) -> int:
        """Port of the control connection."""
        return int(self._control.getsockname()[1])

    @property
    def phase(self) -> str:
        """The phase that has begun last."""
        return PHASES[min(self._phase, len(PHASES) - 1)]

    def view(self, name: str) -> dict[str, int]:
        """The port at which endpoint ``name`` is to look for every endpoint that it connects to."""
        return {
            listening: socket_.getsockname()[1]
            for (connecting, listening), socket_ in self._pairs.items()
            if connecting == name
        }

    def bytes_seen(self) -> dict[str, dict[Link, int]]:
        """Bytes that came, by phase and direction."""
        return {
            phase: {link: d.seen[phase] for link, d in self._directions.items()} for phase in PHASES
        }

    def __enter__(self) -> Relay:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        servers = [await asyncio.start_server(self._obey, sock=self._control)]
        for (connecting, listening), socket_ in self._pairs.items():

            def accept(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                connecting: str = connecting,
                listening: str = listening,
            ) -> None:
                self._spawn(self._connect(reader, writer, connecting, listening))

            servers.append(await asyncio.start_server(accept, sock=socket_, limit=_CHUNK))
        self._started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Transports that were aborted call back once more.
        await asyncio.sleep(0)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                order = json.loads(line)
                if "ports" in order:
                    self._targets = order["ports"]
                else:
                    while time.monotonic() - self.last_byte < _QUIET:
                        await asyncio.sleep(_QUIET / 4)
                    self._phase += 1
                    self.began[self.phase] = time.monotonic()
                writer.write(b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connecting: str,
        listening: str,
    ) -> None:
        transports = [writer.transport]
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._targets[listening], limit=_CHUNK
            )
            transports.append(far_writer.transport)
            there = self._pump((connecting, listening), reader, far_writer, transports)
            back = self._pump((listening, connecting), far_reader, writer, transports)
            await asyncio.gather(there, back)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            # An end of stream has been passed on by then; what is left is to be seen as a reset.
            for transport in transports:
                transport.abort()

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        transports: list[Any],
    ) -> None:
        """Passes one direction on until it ends; ConnectionError when it was cut."""
        direction = self._directions[link]
        while chunk := await reader.read(_CHUNK):
            self.last_byte = time.monotonic()
            before = direction.seen[self.phase]
            direction.seen[self.phase] += len(chunk)
            fault = self.fault
            due = (
                fault is not None
                and self.acted_at is None
                and fault.link == link
                and fault.phase == self.phase
                and before + len(chunk) > fault.offset
            )
            if fault is not None and due:
                at = max(0, fault.offset - before)
                await self._write(direction, writer, chunk[:at])
                if fault.kind == "swap" and len(chunk) - at < 2:
                    await self._write(direction, writer, chunk[at:])
                    continue  # nothing to exchange: at the next chunk
                chunk = await self._act(fault, direction, writer, chunk[at:], transports)
            await self._write(direction, writer, chunk)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _write(
        self, direction: _Direction, writer: asyncio.StreamWriter, data: bytes
    ) -> None:
        dropped = min(direction.drop, len(data))
        direction.drop -= dropped
        data = data[dropped:]
        direction.recent = (direction.recent + data)[-_HISTORY:]
        if direction.rate:
            step = max(1, int(direction.rate / 50))
            for i in range(0, len(data), step):
                writer.write(data[i : i + step])
                await writer.drain()
                await asyncio.sleep(len(data[i : i + step]) / direction.rate)
        elif data:
            writer.write(data)
            await writer.drain()

    async def _act(
        self,
        fault: Fault,
        direction: _Direction,
        writer: asyncio.StreamWriter,
        rest: bytes,
        transports: list[Any],
    ) -> bytes:
        """Does it; returns what is to be passed on of ``rest``, the bytes from the point on."""
        count = int(fault.amount)
        if fault.kind == "duplicate" and not direction.recent:
            direction.recent, rest = rest[:1], rest[:1] + rest
        self.acted_at = time.monotonic()
        match fault.kind:
            case "kill":
                self._signal(fault.victim, signal.SIGKILL)
            case "stop":
                self._signal(fault.victim, signal.SIGSTOP)
            case "resume":
                self._signal(fault.victim, signal.SIGSTOP)
                self._loop.call_later(fault.amount, self._signal, fault.victim, signal.SIGCONT)
            case "cut":
                for transport in transports:
                    # With linger 0 the close is a reset, otherwise an end of stream.
                    linger = struct.pack("ii", count, 0)
                    transport.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger
                    )
                raise ConnectionResetError
            case "delay":
                await asyncio.sleep(fault.amount)
            case "slow":
                direction.rate = fault.amount
            case "corrupt":
                return bytes([rest[0] ^ (1 << count)]) + rest[1:]
            case "truncate":
                direction.drop = count
            case "duplicate":
                return direction.recent[-count:] + rest
            case "swap":
                n = min(count, len(rest) // 2)
                return rest[n : 2 * n] + rest[:n] + rest[2 * n :]
        return rest

    def _signal(self, victim: str, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((self._process_ids / f"{victim}.pid").read_text()), number)
