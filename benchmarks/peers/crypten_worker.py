"""Times one case in CrypTen: two processes and a trusted first one, gloo over loopback, no TLS.

Runs in an environment of its own (:mod:`benchmarks.peers.environments`), so it imports nothing of
this project. ``python crypten_worker.py CASE --seconds S`` prints one line of JSON, the fields of
``benchmarks.results.Row``. The first party deals the triples and is trusted; no third process runs.
A run is timed from shared inputs and weights to the opened output.

CrypTen 0.4.1 is from 2022. What it lacks on a current torch is put in place before it is imported:
only its ONNX importer needs that, which is not used here.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import socket
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIES = 2
FEWEST, MOST = 3, 30
SLOW = 4.0
"""A case whose run takes more seconds than this is timed after one warm-up."""

CASES = (
    *(f"{net}{batch}" for net in "ABC" for batch in (1, 128)),
    *("relu1e4", "relu1e6", "matmul256", "matmul1024", "mul1e4", "mul1e6"),
    *("maxpool1e4", "maxpool1e6", "maxpool112"),
)
POOLS = {"maxpool1e4": (1, 100, 100), "maxpool1e6": (16, 250, 250), "maxpool112": (64, 112, 112)}


def load() -> Any:
    """The package, with what a current torch no longer has."""
    warnings.filterwarnings("ignore")
    import torch
    import torch.onnx

    torch.set_num_threads(1)
    if not hasattr(torch.onnx, "OperatorExportTypes"):
        torch.onnx.OperatorExportTypes = object
    sys.modules.setdefault(
        "torch.onnx.symbolic_registry", types.ModuleType("torch.onnx.symbolic_registry")
    )
    import crypten

    return crypten


def network(crypten: Any, name: str) -> tuple[Any, tuple[int, ...]]:
    """CrypTen's layers, with plaintext weights, and the shape of a picture."""
    nn = crypten.nn
    if name == "A":
        layers = [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(128, 10)), (784,)
    first, second, inner, hidden = (16, 16, 256, 100) if name == "B" else (20, 50, 800, 500)
    layers = [nn.Conv2d(1, first, 5), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
    return nn.Sequential(*layers), (1, 28, 28)


def plain(name: str, weights: list[Any], x: Any) -> Any:
    """The network in floating point, from the weights in order."""
    from torch.nn import functional

    for index in range(0, len(weights), 2):
        weight, bias = weights[index], weights[index + 1]
        last = index + 2 == len(weights)
        if weight.dim() == 4:
            x = functional.max_pool2d(functional.conv2d(x, weight, bias).relu(), 2)
            continue
        x = functional.linear(x.flatten(1), weight, bias)
        x = x if last else x.relu()
    return x


def build(crypten: Any, case: str) -> tuple[Callable[[], Any], Any]:
    """What a run calls, and the result that it should have."""
    import torch

    torch.manual_seed(1)
    if case[0] in "ABC":
        model, shape = network(crypten, case[0])
        x = torch.rand((int(case[1:]), *shape))
        expected = plain(case[0], [p.detach().clone() for p in model.parameters()], x)
        secret = model.encrypt(src=0).eval()
        shared = crypten.cryptensor(x, src=1)
        return lambda: secret(shared), expected
    if case in POOLS:
        x = torch.rand((1, *POOLS[case])) * 8 - 4
        shared = crypten.cryptensor(x, src=0)
        expected = torch.nn.functional.max_pool2d(x, 2)
        return lambda: shared.max_pool2d(2, stride=2), expected
    kind, count = re.fullmatch(r"([a-z]+)(.*)", case).groups()  # type: ignore[union-attr]
    n = int(float(count))
    x = torch.rand((n, n) if kind == "matmul" else (n,)) * 8 - 4
    shared = crypten.cryptensor(x, src=0)
    if kind == "relu":
        return shared.relu, x.relu()
    y = torch.rand(x.shape) * 2 - 1
    other = crypten.cryptensor(y, src=1)
    if kind == "matmul":
        return lambda: shared.matmul(other), x @ y
    return lambda: shared * other, x * y


def peak_bytes() -> int:
    """VmHWM; ru_maxrss would begin at the size of the process that spawned this one."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def party(rank: int, case: str, seconds: float, environment: dict[str, str]) -> None:
    """One process; the first one prints the result."""
    os.environ.update(environment, RANK=str(rank))
    crypten = load()
    import torch
    from crypten import communicator
    from crypten.config import cfg

    cfg.mpc.protocol, cfg.mpc.provider = "beaver", "TFP"
    crypten.init()
    crypten.CrypTensor.set_grad_enabled(False)
    call, expected = build(crypten, case)
    link = communicator.get()
    times: list[float] = []
    first = 0.0
    warm = 0
    more = True
    while more:
        link.barrier()
        start = time.perf_counter()
        output = call().get_plain_text()
        run = time.perf_counter() - start
        if warm == 0:
            first = run
        if warm < (1 if first > SLOW else 2):
            warm += 1
        else:
            times.append(run)
        wanted = len(times) < FEWEST or (len(times) < MOST and sum(times) < seconds)
        # One party decides for all.
        more = bool(link.broadcast(torch.tensor([int(wanted)]), src=0).item())
    # Its own count of what it sends, which is off otherwise, on one more run.
    cfg.communicator.verbose = True
    link.barrier()
    crypten.reset_communication_stats()
    call().get_plain_text()
    stats = link.get_communication_stats()
    cfg.communicator.verbose = False
    if rank == 0:
        row = {
            "online_seconds": times,
            "first_seconds": first,
            "total_bytes": PARTIES * int(stats["bytes"]),
            "rounds": int(stats["rounds"]),
            "peak_bytes": peak_bytes(),
            "deviation": float((output - expected).abs().max()),
            "magnitude": float(expected.abs().max()),
        }
        print(json.dumps(row), flush=True)
    crypten.uninit()


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {
        "WORLD_SIZE": str(PARTIES),
        "RENDEZVOUS": f"tcp://127.0.0.1:{port}",
        "DISTRIBUTED_BACKEND": "gloo",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=party, args=(rank, options.case, options.seconds, environment))
        for rank in range(PARTIES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode or 0) for process in processes)


if __name__ == "__main__":
    sys.exit(main())
