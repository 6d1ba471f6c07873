"""Times one case in SecretFlow SPU: three processes, ABY3 over Z_2^64, loopback TCP without TLS.

Runs in an environment of its own (:mod:`benchmarks.peers.environments`), so it imports nothing of
this project. ``python spu_worker.py CASE --seconds S`` prints one line of JSON, the fields of
``benchmarks.results.Row``. Inputs and weights are secret and shared before the clock starts; a run
is timed from the moment that all parties are released to the moment that the last one is done,
output still shared. ``CASE:tuned`` is the model rewritten by hand for SPU: max pooling as maxima of
slices, and before ReLU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import operator
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import spu
from jax import lax
from spu import libspu
from spu.utils import frontend

PARTIES = 3
FEWEST, MOST = 3, 30
SLOW = 4.0
"""A case whose run takes more seconds than this is timed without a second warm-up."""

Tensor = Any
Weights = Any


# --- models: NHWC, weights are arguments and so secret -------------------------------------------


def conv(x: Tensor, weight: Weights, stride: int = 1, pad: int = 0) -> Tensor:
    """Convolution with bias."""
    y = lax.conv_general_dilated(
        x,
        weight[0],
        (stride, stride),
        [(pad, pad), (pad, pad)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + weight[1]


def dense(x: Tensor, weight: Weights) -> Tensor:
    """Dense layer with bias."""
    return x @ weight[0] + weight[1]


def relu(x: Tensor) -> Tensor:
    """Relu."""
    return jnp.maximum(x, 0.0)


def maxpool(x: Tensor, size: int = 2, stride: int = 2) -> Tensor:
    """Max pooling as JAX has it."""
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")


def maxpool_slices(x: Tensor) -> Tensor:
    """Max pooling 2x2 that SPU runs faster."""
    first = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
    return jnp.maximum(first, jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2]))


def network_a(x: Tensor, w: Weights) -> Tensor:
    """784-128-relu-128-relu-10."""
    return dense(relu(dense(relu(dense(x, w[0])), w[1])), w[2])


def network_bc(x: Tensor, w: Weights) -> Tensor:
    """Two convolutions with relu and pooling, two dense layers."""
    for layer in w[:2]:
        x = maxpool(relu(conv(x, layer)))
    return dense(relu(dense(x.reshape((x.shape[0], -1)), w[2])), w[3])


def network_bc_tuned(x: Tensor, w: Weights) -> Tensor:
    """The same function."""
    for layer in w[:2]:
        x = relu(maxpool_slices(conv(x, layer)))
    return dense(relu(dense(x.reshape((x.shape[0], -1)), w[2])), w[3])


def resnet18(x: Tensor, w: Weights) -> Tensor:
    """For 32 x 32 pictures; normalisation folded into the convolutions."""
    x = relu(conv(x, w["stem"], 1, 1))
    for index, block in enumerate(w["blocks"]):
        stride = 2 if index in (2, 4, 6) else 1
        y = conv(relu(conv(x, block["a"], stride, 1)), block["b"], 1, 1)
        x = relu(y + (conv(x, block["d"], stride) if "d" in block else x))
    return dense(jnp.mean(x, axis=(1, 2)), w["fc"])


def resnet50(x: Tensor, w: Weights) -> Tensor:
    """Bottleneck blocks; normalisation folded into the convolutions."""
    x = relu(conv(x, w["stem"], 2, 3))
    # Behind a relu, padding with zeros is padding with minus infinity.
    x = maxpool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)
    for index, block in enumerate(w["blocks"]):
        stride = 2 if index in (3, 7, 13) else 1
        y = relu(conv(relu(conv(x, block["a"])), block["b"], stride, 1))
        y = conv(y, block["c"])
        x = relu(y + (conv(x, block["d"], stride) if "d" in block else x))
    return dense(jnp.mean(x, axis=(1, 2)), w["fc"])


def bert_layer(x: Tensor, w: Weights) -> Tensor:
    """An encoder layer with the exact GELU."""

    def norm(t: Tensor) -> Tensor:
        centred = t - jnp.mean(t, -1, keepdims=True)
        return centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)

    def heads(t: Tensor) -> Tensor:
        return t.reshape(1, 128, 12, 64).transpose(0, 2, 1, 3)

    query, key, value = (heads(dense(x, w[i])) for i in range(3))
    weights = jax.nn.softmax((query @ key.transpose(0, 1, 3, 2)) * 0.125, axis=-1)
    context = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
    # Scales are one and offsets zero here; applying them would only cost this system more.
    x = norm(x + dense(context, w[3]))
    return norm(x + dense(jax.nn.gelu(dense(x, w[4]), approximate=False), w[5]))


class Random:
    """Seeded He-initialised weights."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(1)

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        return (scale * self.generator.standard_normal(shape)).astype(np.float32)

    def uniform(self, *shape: int) -> Any:
        return self.generator.random(shape).astype(np.float32)

    def dense(self, inputs: int, outputs: int) -> Weights:
        return [self.normal(inputs, outputs, scale=(2 / inputs) ** 0.5), 0.1 * self.normal(outputs)]

    def conv(self, kernel: int, inputs: int, outputs: int, gain: float = 1.0) -> Weights:
        scale = gain * (2 / (kernel * kernel * inputs)) ** 0.5
        weight = self.normal(kernel, kernel, inputs, outputs, scale=scale)
        return [weight, 0.05 * self.normal(outputs)]


def _normal(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    r = Random()
    return tuple(r.normal(*shape, scale=2.0) for shape in shapes)


def _function(low: float, high: float, normal: float) -> tuple[Any, ...]:
    generator = np.random.default_rng(1)
    if normal:
        x = np.clip(generator.standard_normal((128, 128)) * normal, low, high)
    else:
        x = generator.uniform(low, high, (128, 128))
    return (x.astype(np.float32),)


def _bert() -> tuple[Any, ...]:
    r = Random()

    def weight(inputs: int, outputs: int) -> Weights:
        return [r.normal(inputs, outputs, scale=inputs**-0.5), 0.02 * r.normal(outputs)]

    weights = [weight(768, 768) for _ in range(4)]
    weights += [weight(768, 3072), weight(3072, 768)]
    return np.clip(r.normal(1, 128, 768), -4, 4), weights


def _a(batch: int) -> tuple[Any, ...]:
    r = Random()
    return r.uniform(batch, 784), [r.dense(784, 128), r.dense(128, 128), r.dense(128, 10)]


def _bc(sizes: tuple[int, int, int], batch: int) -> tuple[Any, ...]:
    first, second, hidden = sizes
    r = Random()
    weights = [r.conv(5, 1, first), r.conv(5, first, second)]
    weights += [r.dense(16 * second, hidden), r.dense(hidden, 10)]
    return r.uniform(batch, 28, 28, 1), weights


def _resnet18() -> tuple[Any, ...]:
    r = Random()
    weights: dict[str, Any] = {"stem": r.conv(3, 3, 64), "blocks": []}
    channels = 64
    for stage in range(4):
        for _ in range(2):
            outputs = 64 << stage
            block = {"a": r.conv(3, channels, outputs), "b": r.conv(3, outputs, outputs, 0.3)}
            if channels != outputs:
                block["d"] = r.conv(1, channels, outputs, 0.7)
            weights["blocks"].append(block)
            channels = outputs
    weights["fc"] = r.dense(512, 10)
    return r.normal(1, 32, 32, 3), weights


def _resnet50() -> tuple[Any, ...]:
    r = Random()
    weights: dict[str, Any] = {"stem": r.conv(7, 3, 64), "blocks": []}
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for i in range(blocks):
            block = {
                "a": r.conv(1, channels, inner),
                "b": r.conv(3, inner, inner),
                "c": r.conv(1, inner, 4 * inner, 0.3),
            }
            if i == 0:
                block["d"] = r.conv(1, channels, 4 * inner, 0.7)
            weights["blocks"].append(block)
            channels = 4 * inner
    weights["fc"] = r.dense(2048, 1000)
    return r.normal(1, 224, 224, 3), weights


def _cases() -> dict[str, tuple[Callable[..., Tensor], Callable[[], tuple[Any, ...]]]]:
    """Function and arguments by the names of ``benchmarks.cases``."""
    cases: dict[str, tuple[Callable[..., Tensor], Callable[[], tuple[Any, ...]]]] = {}
    for n in (256, 1024):
        cases[f"matmul{n}"] = operator.matmul, partial(_normal, (n, n), (n, n))
    for digit in (4, 6):
        n = 10**digit
        cases[f"mul1e{digit}"] = operator.mul, partial(_normal, (n,), (n,))
        cases[f"relu1e{digit}"] = relu, partial(_normal, (n,))
    pools = {"1e4": (1, 100, 100, 1), "1e6": (1, 250, 250, 16), "112": (1, 112, 112, 64)}
    for name, shape in pools.items():
        cases[f"maxpool{name}"] = maxpool, partial(_normal, shape)
        cases[f"maxpool{name}:tuned"] = maxpool_slices, partial(_normal, shape)
    functions: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, float, float]]] = {
        "exp": (jnp.exp, (-5, 2, 0)),
        "reciprocal": (lambda x: 1.0 / x, (0.5, 20, 0)),
        "sqrt": (jnp.sqrt, (0.1, 50, 0)),
        "sigmoid": (jax.nn.sigmoid, (-16, 16, 3)),
        "tanh": (jnp.tanh, (-16, 16, 1.5)),
        "erf": (lax.erf, (-16, 16, 1.5)),
        "gelu": (partial(jax.nn.gelu, approximate=False), (-16, 16, 2)),
        "gelutanh": (partial(jax.nn.gelu, approximate=True), (-16, 16, 2)),
        "softmax": (partial(jax.nn.softmax, axis=-1), (-16, 16, 2)),
    }
    for key, (function, inputs) in functions.items():
        cases[key] = function, partial(_function, *inputs)
    for batch in (1, 128):
        cases[f"A{batch}"] = network_a, partial(_a, batch)
        for net, sizes in (("B", (16, 16, 100)), ("C", (20, 50, 500))):
            arguments = partial(_bc, sizes, batch)
            cases[f"{net}{batch}"] = network_bc, arguments
            cases[f"{net}{batch}:tuned"] = network_bc_tuned, arguments
    cases["bert"] = bert_layer, _bert
    cases["resnet18"] = resnet18, _resnet18
    cases["resnet50"] = resnet50, _resnet50
    return cases


# --- parties -------------------------------------------------------------------------------------


def peak_bytes() -> int:
    """VmHWM; ru_maxrss would begin at the size of the process that spawned this one."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def configuration(profile: bool = False) -> Any:
    """ABY3 over Z_2^64, all else as SPU has it."""
    config = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
    config.enable_pphlo_profile = config.enable_hal_profile = profile
    return config


def party(rank: int, ports: list[int], barrier: Barrier, pipe: Connection, log: str) -> None:
    """A party's process: answers ``load``, ``run``, ``profile``, ``result`` until ``quit``."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    description = libspu.link.Desc()
    for i, port in enumerate(ports):
        description.add_party(f"P{i}", f"127.0.0.1:{port}")
    description.recv_timeout_ms = description.http_timeout_ms = 600_000
    description.connect_retry_times = 60
    link = libspu.link.create_brpc(description, rank)
    runtime = spu.Runtime(link, configuration())
    program, values = None, {}
    pipe.send(None)
    while True:
        command, argument = pipe.recv()
        if command == "load":
            code, inputs, outputs, shares = argument
            program = libspu.Executable(
                name="f", input_names=inputs, output_names=outputs, code=code
            )
            values = {name: shares[i] for i, name in enumerate(inputs)}
            for name, share in values.items():
                runtime.set_var(name, share)
            pipe.send(None)
        elif command == "run":
            barrier.wait()
            cpu, start = time.process_time(), time.monotonic()
            runtime.run(program)
            pipe.send((start, time.monotonic(), peak_bytes(), time.process_time() - cpu))
        elif command == "profile":
            profiled = spu.Runtime(link.spawn(), configuration(profile=True))
            for name, share in values.items():
                profiled.set_var(name, share)
            barrier.wait()
            profiled.run(program)
            pipe.send(None)
        elif command == "result":
            assert program is not None
            pipe.send([runtime.get_var(name) for name in program.output_names])
        else:
            os._exit(0)


class Parties:
    """Three processes and a way to speak to them."""

    def __init__(self, folder: str) -> None:
        context = multiprocessing.get_context("spawn")
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(PARTIES)]
        ports = [s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        barrier = context.Barrier(PARTIES)
        self.logs = [Path(folder) / f"P{i}.log" for i in range(PARTIES)]
        self.pipes = []
        self.processes = []
        for i in range(PARTIES):
            ours, theirs = context.Pipe()
            arguments = (i, ports, barrier, theirs, str(self.logs[i]))
            process = context.Process(target=party, args=arguments, daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)
        self._answers()

    def _answers(self) -> list[Any]:
        answers = []
        for i, pipe in enumerate(self.pipes):
            while not pipe.poll(0.2):
                if not self.processes[i].is_alive():
                    raise RuntimeError(f"P{i} died: {self.logs[i].read_text()[-1500:]}")
            answers.append(pipe.recv())
        return answers

    def ask(self, command: str, arguments: list[Any] | None = None) -> list[Any]:
        """The answers of all to one command."""
        for i, pipe in enumerate(self.pipes):
            pipe.send((command, arguments[i] if arguments else None))
        return self._answers()

    def close(self) -> None:
        """End the processes."""
        for i, pipe in enumerate(self.pipes):
            if self.processes[i].is_alive():
                pipe.send(("quit", None))
            self.processes[i].join(5)
            self.processes[i].kill()


_SENT = re.compile(r"Link details: total send bytes (\d+)")


def measure(name: str, seconds: float, folder: str) -> dict[str, Any]:
    """The fields of a row."""
    function, make = _cases()[name]
    arguments = make()
    flat = jax.tree_util.tree_leaves(arguments)
    names = [f"in{i}" for i in range(len(flat))]
    secret = libspu.Visibility.VIS_SECRET
    start = time.perf_counter()
    program, _ = frontend.compile(
        frontend.Kind.JAX, function, arguments, {}, names, [secret] * len(flat),
        lambda outputs: [f"out{i}" for i in range(len(outputs))],
    )  # fmt: skip
    compiled = time.perf_counter() - start
    io = spu.Io(PARTIES, configuration())
    shares = [io.make_shares(np.asarray(x), secret) for x in flat]
    parties = Parties(folder)
    try:
        parties.ask(
            "load",
            [
                (program.code, program.input_names, program.output_names, [s[i] for s in shares])
                for i in range(PARTIES)
            ],
        )
        times: list[float] = []
        processor: list[float] = []
        first = 0.0
        warm = 0
        while len(times) < FEWEST or (len(times) < MOST and sum(times) < seconds):
            answers = parties.ask("run")
            run = max(a[1] for a in answers) - min(a[0] for a in answers)
            if warm == 0:
                first = run
            if warm < (1 if first > SLOW else 2):
                warm += 1
                continue
            times.append(run)
            processor.append(sum(a[3] for a in answers))
        result = parties.ask("result")
        parties.ask("profile")
        time.sleep(0.3)
        sent = [_SENT.findall(log.read_text()) for log in parties.logs]
    finally:
        parties.close()
    found = [io.reconstruct([r[i] for r in result]) for i in range(len(result[0]))]
    plain = jax.tree_util.tree_leaves(jax.jit(function)(*arguments))
    errors = [
        float(np.abs(np.asarray(found[i], np.float64) - np.asarray(p)).max())
        for i, p in enumerate(plain)
    ]
    return {
        "online_seconds": times,
        "first_seconds": first,
        "compile_seconds": compiled,
        "total_bytes": sum(int(s[-1]) for s in sent) if all(sent) else None,
        "peak_bytes": max(a[2] for a in answers),
        "cpu_seconds": statistics.median(processor),
        "deviation": max(errors),
        "magnitude": max(float(np.abs(np.asarray(p)).max()) for p in plain),
    }


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=sorted(_cases()))
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpcc-peer-") as folder:
        print(json.dumps(measure(options.case, options.seconds, folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
