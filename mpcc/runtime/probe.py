"""Measures the network between the parties of a cluster file, over TLS as a session has it.

Every party calls :func:`measure` with the same file. Of two parties the one with the lower index
listens. Pairs take their turns, so that no measurement disturbs another; at the end all parties
know all links. Nothing but the measurement is sent, and nobody without a certificate takes part.
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from mpcc.cost import Link, Profile
from mpcc.errors import MpccError
from mpcc.ir.schedule import link_name
from mpcc.ir.types import COMPUTE_PLACES

__all__ = ["measure"]

_PINGS = 32
_FIRST = 1 << 20
"""Bytes of the first burst, which says how long the second may be."""
_LONGEST = 1 << 28
_BURST = 0.5
"""Seconds that the second burst should take."""
_CHUNK = 1 << 18
_HANDSHAKE = 2.0
"""Seconds that a caller may take to show a certificate; nobody else is served meanwhile."""
_TURN = 60.0
"""Seconds, beyond the patience for a silent peer, that measuring one pair may take in all."""
_MAX_FILE = 1 << 20
_MAX_WORD = 1 << 16
_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Of the network, and of a peer that says nonsense."""
_NUMBER = struct.Struct("!d")
_LENGTH = struct.Struct("!I")


@dataclass(frozen=True)
class _Party:
    """An endpoint that hosts one compute place."""

    name: str
    place: str
    host: str
    port: int


@dataclass(frozen=True)
class _Config:
    """What the measurement needs of a cluster file (runtime_native/graph/session.h)."""

    parties: Mapping[int, _Party]
    certificate: Path
    key: Path
    authority: Path
    patience: float


def _config(path: Path, index: int) -> _Config:
    def wrong(what: str) -> MpccError:
        return MpccError.of("E-cluster-file", what, str(path), "see docs/engine.md")

    try:
        if path.stat().st_size > _MAX_FILE:
            raise wrong("the file is too large")
        root = json.loads(path.read_text(encoding="utf-8"))
        parties = {}
        for number, entry in enumerate(root["endpoints"]):
            places = [p for p in entry["places"] if p in COMPUTE_PLACES]
            if len(places) == 1:
                port = int(entry.get("port", 0))
                host, name = str(entry.get("host", "")), str(entry["name"])
                parties[number] = _Party(name, places[0], host, port)
        own = root["endpoints"][index] if index >= 0 else None
        if index not in parties or own is None:
            raise wrong(f"endpoint {index} is no compute party")
        files = [
            path.parent / str(own.get(k, root.get(k, "")) if k != "ca" else root[k])
            for k in ("cert", "key", "ca")
        ]
        patience = float(root.get("connect_deadline_s", 10.0))
        if not 0 < patience < 1e6:
            raise wrong("connect_deadline_s must be a positive number of seconds")
    except OSError as error:
        raise wrong(f"cannot read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise wrong(f"not a cluster file ({type(error).__name__})") from None
    return _Config(parties, files[0], files[1], files[2], patience)


def _context(config: _Config, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(config.certificate, config.key)
    context.load_verify_locations(config.authority)
    return context


def _accept(
    listener: socket.socket, config: _Config, peer: str, early: dict[str, ssl.SSLSocket]
) -> ssl.SSLSocket:
    """The peer's call; parties that call before their turn are kept, strangers turned away."""
    if peer in early:
        return early.pop(peer)
    others = {party.name for party in config.parties.values()}
    context = _context(config, server=True)
    deadline = time.monotonic() + config.patience
    while True:
        # However many strangers call, and however slowly.
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it did not call in time")
        listener.settimeout(left)
        connection, _ = listener.accept()
        connection.settimeout(min(left, _HANDSHAKE))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found = context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            continue
        alternatives = (found.getpeercert() or {}).get("subjectAltName", ())
        certified = {name for name in others if ("DNS", name) in alternatives}
        if peer in certified:
            return found
        # A party has one name; nobody calls for two.
        if len(certified) == 1 and not certified & early.keys():
            early[certified.pop()] = found
        else:
            found.close()


def _close(connections: Mapping[str, ssl.SSLSocket]) -> None:
    for connection in connections.values():
        connection.close()


def _call(config: _Config, peer: _Party) -> ssl.SSLSocket:
    """A connection to a peer that may not listen yet."""
    context = _context(config, server=False)
    deadline = time.monotonic() + config.patience
    while True:
        left = max(0.01, deadline - time.monotonic())
        try:
            connection = socket.create_connection((peer.host, peer.port), timeout=left)
            break
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
    connection.settimeout(config.patience)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return context.wrap_socket(connection, server_hostname=peer.name)
    except BaseException:
        connection.close()
        raise


class _Line:
    """A connection that raises ``TimeoutError`` after a silence, and at a deadline in any case.

    Args:
        connection: with its peer.
        patience: seconds of silence that are waited for.
    """

    def __init__(self, connection: ssl.SSLSocket, patience: float) -> None:
        self._connection, self._patience = connection, patience
        self.begin()

    def begin(self) -> None:
        """A turn begins: its time is counted from now on."""
        self._deadline = time.monotonic() + self._patience + _TURN

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long")
        self._connection.settimeout(min(left, self._patience))

    def recv(self, most: int) -> bytes:
        """Up to so many bytes; none if the peer left."""
        self._wait()
        return self._connection.recv(most)

    def sendall(self, data: bytes) -> None:
        """All of them."""
        self._wait()
        self._connection.sendall(data)


def _read(connection: _Line, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = connection.recv(min(_CHUNK, count - len(found)))
        if not part:
            raise ConnectionError("the peer left")
        found += part
    return bytes(found)


def _one_way(connection: _Line, first: bool) -> float:
    """Half the shortest round trip, seconds."""
    best = math.inf
    for _ in range(_PINGS):
        start = time.perf_counter()
        if first:
            connection.sendall(b"p")
        _read(connection, 1)
        if not first:
            connection.sendall(b"p")
        else:
            best = min(best, time.perf_counter() - start)
    if first:
        connection.sendall(_NUMBER.pack(best))
        return best / 2
    return _number(connection) / 2


def _number(connection: _Line) -> float:
    (found,) = _NUMBER.unpack(_read(connection, _NUMBER.size))
    if not 0 < found < 2.0**64:
        raise ValueError("no figure")
    return float(found)


def _send_burst(connection: _Line, count: int) -> float:
    """Bits per second as the receiver sees them."""
    block = bytes(_CHUNK)
    connection.sendall(_LENGTH.pack(count))
    for start in range(0, count, _CHUNK):
        connection.sendall(block[: count - start])
    return _number(connection)


def _take_burst(connection: _Line) -> float:
    (count,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    if not 2 <= count <= _LONGEST:
        raise ValueError("no length of a burst")
    # The clock starts with the first bytes: what they waited for is latency.
    left = count - len(connection.recv(_CHUNK))
    start, counted = time.perf_counter(), left
    while left > 0:
        part = connection.recv(min(_CHUNK, left))
        if not part:
            raise ConnectionError("the peer left")
        left -= len(part)
    rate = 8 * max(counted, 1) / max(time.perf_counter() - start, 1e-9)
    connection.sendall(_NUMBER.pack(rate))
    return rate


def _rate(connection: _Line, sending: bool) -> float:
    """Bandwidth of one direction, bits per second."""
    if not sending:
        _take_burst(connection)
        return _take_burst(connection)
    first = _send_burst(connection, _FIRST)
    return _send_burst(connection, min(_LONGEST, max(_FIRST, int(first / 8 * _BURST))))


def _exchange(connection: _Line, known: dict[str, tuple[float, float]]) -> None:
    """Tell each other all links that one knows; what one measured oneself stays."""
    word = json.dumps(known).encode()
    connection.sendall(_LENGTH.pack(len(word)) + word)
    (count,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    if count > _MAX_WORD:
        raise ValueError("too many words")
    names = {link_name(a, b) for a in COMPUTE_PLACES for b in COMPUTE_PLACES if a != b}
    for name, figures in json.loads(_read(connection, count)).items():
        latency, rate = map(float, figures)
        if name not in names or not 0 <= latency < 1e4 or not 0 < rate < 2.0**64:
            raise ValueError("no figures of a link")
        known.setdefault(name, (latency, rate))


def _pairs(config: _Config) -> Iterator[tuple[int, int]]:
    yield from combinations(sorted(config.parties), 2)


def measure(path: Path, index: int, listener: socket.socket | None = None) -> Profile:
    """Measure all links between the compute parties of a cluster file; every party calls it.

    Latency is half the shortest of 32 round trips, bandwidth that of a burst of half a second
    through one TLS connection, each direction by itself: a fast processor and network are not
    told apart above some 10 Gbit/s.

    Args:
        path: the cluster file, as ``mpcc-party`` reads it.
        index: this endpoint's.
        listener: a socket that listens at this endpoint's address; None opens one.

    Returns:
        A profile whose links between parties are the measured ones. All others, those to owners,
        are taken as slow as the slowest of them.

    Raises:
        MpccError: ``E-cluster-file``, or ``E-network-measure``: a party cannot be reached.
    """
    config = _config(path, index)
    own = config.parties[index]
    known: dict[str, tuple[float, float]] = {}
    peer = own
    try:
        with ExitStack() as stack:
            if listener is None and index != max(config.parties):
                family = socket.AF_INET6 if ":" in own.host else socket.AF_INET
                listener = stack.enter_context(
                    socket.create_server((own.host, own.port), family=family)
                )
            lines = []
            early: dict[str, ssl.SSLSocket] = {}
            stack.callback(_close, early)
            for pair in _pairs(config):
                if index not in pair:
                    continue
                listens = index == pair[0]
                peer = config.parties[pair[1] if listens else pair[0]]
                if listens and listener is not None:
                    connection = _accept(listener, config, peer.name, early)
                else:
                    connection = _call(config, peer)
                line = _Line(stack.enter_context(connection), config.patience)
                lines.append((peer, line))
                latency = _one_way(line, first=listens)
                for sends in (True, False):
                    ends = (own, peer) if sends == listens else (peer, own)
                    rate = _rate(line, sending=ends[0] is own)
                    known[link_name(ends[0].place, ends[1].place)] = (latency, rate)
            for peer, line in lines:  # noqa: B007 - an error names it
                line.begin()
                _exchange(line, known)
    except _FAILURES as error:
        raise MpccError.of(
            "E-network-measure",
            f"the connection with {peer.name} fails: {error or type(error).__name__}",
            str(path),
            "every party must run it with the same cluster file, within the connect deadline",
        ) from None
    links = {name: Link(*figures) for name, figures in sorted(known.items())}
    slowest = Link(
        max((link.latency for link in links.values()), default=0.0),
        min((link.bandwidth for link in links.values()), default=math.inf),
    )
    return Profile(path.name, slowest, links)
