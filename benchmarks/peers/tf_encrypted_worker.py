"""Times one case in tf-encrypted: ABY3, all three parties in one process.

Runs in an environment of its own (:mod:`benchmarks.peers.environments`), with Python 3.9, so it
imports nothing of this project. ``python tf_encrypted_worker.py CASE --seconds S`` prints one line
of JSON, the fields of ``benchmarks.results.Row``. One process without sockets is its fastest way to
run: over gRPC it takes 1.5 to 4 times as long. A run is timed from shared inputs and weights to the
opened output.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
import tf_encrypted as tfe
from tf_encrypted.protocol import ABY3

FEWEST, MOST = 3, 30
SLOW = 4.0
"""A case whose run takes more seconds than this is timed after one warm-up."""

CASES = (
    *(f"{net}{batch}" for net in "ABC" for batch in (1, 128)),
    *("relu1e4", "relu1e6", "matmul256", "matmul1024"),
)
PLAYERS = ["server0", "server1", "server2", "input-provider", "weights-provider"]


def network(name: str, batch: int) -> Any:
    """The float model."""
    layers = tf.keras.layers
    if name == "A":
        first = layers.Dense(128, batch_input_shape=(batch, 784))
        parts = [first, layers.ReLU(), layers.Dense(128), layers.ReLU(), layers.Dense(10)]
        return tf.keras.Sequential(parts)
    one, two, hidden = (16, 16, 100) if name == "B" else (20, 50, 500)
    parts = [layers.Conv2D(one, 5, padding="valid", batch_input_shape=(batch, 28, 28, 1))]
    parts += [layers.ReLU(), layers.MaxPooling2D(2), layers.Conv2D(two, 5, padding="valid")]
    parts += [layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten()]
    parts += [layers.Dense(hidden), layers.ReLU(), layers.Dense(10)]
    return tf.keras.Sequential(parts)


def build(case: str) -> tuple[Callable[..., Any], list[Any], Any]:
    """What a run calls, its secret inputs, and the result that it should have."""
    generator = np.random.default_rng(1)

    def secret(player: str, values: Any) -> Any:
        return tfe.define_private_input(player, lambda: tf.constant(values))

    if case[0] in "ABC":
        model = network(case[0], int(case[1:]))
        x = generator.uniform(0, 1, model.input_shape).astype(np.float32)
        private = tfe.keras.models.clone_model(model)
        return private.call, [secret(PLAYERS[3], x)], model(x).numpy()
    kind, count = re.fullmatch(r"([a-z]+)(.*)", case).groups()  # type: ignore[union-attr]
    n = int(float(count))
    if kind == "relu":
        x = generator.uniform(-4, 4, n).astype(np.float32)
        return tfe.relu, [secret(PLAYERS[3], x)], np.maximum(x, 0)
    x, y = (generator.uniform(-1, 1, (n, n)).astype(np.float32) for _ in range(2))
    return tfe.matmul, [secret(PLAYERS[3], x), secret(PLAYERS[4], y)], x @ y


def peak_bytes() -> int:
    """VmHWM of this process, which is all parties."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure(case: str, seconds: float) -> dict[str, Any]:
    """The fields of a row."""
    tfe.set_config(tfe.LocalConfig(player_names=PLAYERS))
    tfe.set_protocol(ABY3())
    call, inputs, expected = build(case)

    infer = tfe.function(lambda *values: call(*values).reveal().to_native())
    times: list[float] = []
    processor: list[float] = []
    first = 0.0
    warm = 0
    while len(times) < FEWEST or (len(times) < MOST and sum(times) < seconds):
        cpu, start = time.process_time(), time.perf_counter()
        output = infer(*inputs).numpy()
        run = time.perf_counter() - start
        if warm == 0:
            first = run
        # The first call traces the function.
        if warm < 2:
            warm += 1
            continue
        times.append(run)
        processor.append(time.process_time() - cpu)
    return {
        "online_seconds": times,
        "first_seconds": first,
        "peak_bytes": peak_bytes(),
        "cpu_seconds": statistics.median(processor),
        "deviation": float(np.abs(output - expected).max()),
        "magnitude": float(np.abs(expected).max()),
        "notes": ["all parties in one process"],
    }


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    print(json.dumps(measure(options.case, options.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
