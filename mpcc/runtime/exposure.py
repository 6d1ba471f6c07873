"""Where servers of TensorFlow's distributed runtime may be reached, and where a process listens.

Their connections have neither encryption nor identities: whoever reaches one of them can read every
share of every party. So they are for loopback, or for a network of which somebody has said that
nobody else is on it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mpcc.errors import Diagnostic, MpccError

__all__ = [
    "PROTECTION",
    "check_addresses",
    "check_listening",
    "check_preloaded",
    "listening",
]

PROTECTION = (
    "TensorFlow's connections between the parties are neither encrypted nor authenticated, and the "
    "process that runs the graph can read every share: this protects inputs and weights from "
    "nobody who reaches these processes, and they read and write this user's files for whoever "
    "does. Keys are agreed on over TLS. It is for one machine, tests and private networks."
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LISTEN = "0A"


def _networks(private: Iterable[str]) -> list[Network]:
    try:
        return [ipaddress.ip_network(text) for text in private]
    except ValueError as error:
        raise MpccError.of("E-option-network", f"not a network: {error}") from None


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _addresses(task: str) -> list[Address]:
    host, separator, port = task.rpartition(":")
    if not separator or not port.isdigit():
        raise MpccError.of("E-tf-cluster", f"'{task}' is no HOST:PORT")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise MpccError.of("E-tf-cluster", f"the host of '{task}' is not found: {error}") from None
    return [_plain(ipaddress.ip_address(str(row[4][0]).split("%")[0])) for row in found]


def check_addresses(
    jobs: Mapping[str, Sequence[str]], private_networks: Collection[str] = ()
) -> None:
    """Refuse a cluster with a task outside of loopback and the networks that were declared.

    Args:
        jobs: ``host:port`` of every task, by job, as of ``tf.train.ClusterSpec``.
        private_networks: such as ``10.1.0.0/16``: on which nobody is but the parties' machines.

    Raises:
        MpccError: ``E-tf-exposed`` with all such tasks; ``E-tf-cluster`` for an address that is
            none, ``E-option-network`` for such a network.
    """
    networks = _networks(private_networks)
    outside = [
        Diagnostic(
            "E-tf-exposed",
            f"{address} is neither loopback nor in a network declared private",
            f"/job:{job}/task:{index}",
            "declare the network if nobody else is on it; otherwise run every party in a session "
            "of its own, over TLS",
        )
        for job, tasks in jobs.items()
        for index, task in enumerate(tasks)
        for address in _addresses(task)
        if not address.is_loopback and not any(address in network for network in networks)
    ]
    if outside:
        raise MpccError(*outside)


def _address(text: str) -> Address:
    """An address as the kernel's tables have it: words of four bytes in the machine's order."""
    data = bytes.fromhex(text)
    words = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    return _plain(ipaddress.ip_address(words))


def listening() -> set[tuple[Address, int]]:
    """(address, port) of every TCP socket at which this process listens.

    Raises:
        MpccError: ``E-tf-exposed``: nobody can know.
    """
    own = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            own.add(os.readlink(entry))
        except OSError:  # closed since
            continue
    found = set()
    tables = [Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")]
    there = [table for table in tables if table.exists()]
    if not there:
        raise MpccError.of(
            "E-tf-exposed", "the kernel does not say where this process listens", str(tables[0])
        )
    for table in there:
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in own:
                found.add((_address(address), int(port, 16)))
    return found


_FIX = "libmpcc_loopback.so could not be preloaded here; use --engine tensorflow-sessions"


def check_preloaded() -> None:
    """Refuse a process in which sockets for all addresses are not bound to loopback.

    Raises:
        MpccError: ``E-tf-exposed``.
    """
    with socket.socket() as trial:
        trial.bind(("0.0.0.0", 0))
        if not ipaddress.ip_address(trial.getsockname()[0]).is_loopback:
            raise MpccError.of(
                "E-tf-exposed", "TensorFlow's servers would listen at all addresses", fix=_FIX
            )


def check_listening() -> None:
    """Refuse to go on in a process that can be reached from outside of this machine.

    Raises:
        MpccError: ``E-tf-exposed``, with the addresses.
    """
    outside = sorted(f"{a}, port {port}" for a, port in listening() if not a.is_loopback)
    if outside:
        raise MpccError.of(
            "E-tf-exposed",
            f"TensorFlow listens at {'; '.join(outside)}",
            fix=_FIX,
        )
