"""What a function by harmonics costs: ``python -m benchmarks.harmonics [--elements N]``.

Prints, for functions of K harmonics in either ring, bytes between the parties per element, rounds,
the busiest link over their mean, and nanoseconds of processor time per element of all three
parties, over memory links and one thread each: of the function and its truncation, less those of a
program without them. The least of several runs, in alternation.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction

import numpy as np

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir.core import Module, Value
from mpcc.ir.ops import secure
from mpcc.ir.schedule import ONLINE, schedule
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.split_lanes import SplitLanes
from mpcc.protocols import Rep3, lower_program

FRAC, RUNS = 12, 7
COUNTS = (1, 8, 16, 32)


def program(elements: int, count: int, ring: int) -> Module:
    """A sum of a function of an input; of the input itself for no harmonics."""
    module = Module("secure")
    formats = {"owner": "client", "ring": 64, "frac": FRAC, "width": FRAC + 4}
    box = {"name": "x", "shape": (elements,), "lo": -8.0, "hi": 8.0}
    x: Value = module.main.append(secure.Input, (), {**formats, **box}).result
    if count:
        precision = 20 if ring == 64 else 13
        series = {"cos": (1 << 10,) * count, "sin": (-(1 << 9),) * count, "coefficient_frac": 14}
        angle = {"period": FRAC + 5, "precision": precision, "ring": ring}
        attrs = {**series, **angle, "width": min(2 * precision + 3, ring - 3)}
        x = module.main.append(secure.Fourier, [x], attrs).result
        drop = {"amount": 2 * precision - FRAC, "width": FRAC + 4}
        x = module.main.append(secure.Truncate, [x], drop).result
    total = {"axes": (0,), "width": 31 if ring == 32 else 40}
    x = module.main.append(secure.ReduceSum, [x], total).result
    module.main.append(secure.Reveal, [x], {"name": "y", "owner": "client"})
    SplitLanes().run(module)
    return module


def main(argv: list[str] | None = None) -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1 << 17)
    elements = parser.parse_args(argv).elements
    rows = [(count, ring) for ring in (64, 32) for count in COUNTS]
    plans, fastest = {}, {}
    for count, ring in [(0, 64), *rows]:
        party = lower_program(program(elements, count, ring), Rep3()).party
        sent: dict[tuple[str, str], int] = {}
        depth = 0
        for message in schedule(party).messages:
            if message.phase == ONLINE and {message.source, message.to} <= set(COMPUTE_PLACES):
                link = message.source, message.to
                sent[link] = sent.get(link, 0) + message.nbytes
            depth = max(depth, message.depth)
        FuseLocal().run(party)
        plans[count, ring] = emit(party), sent, depth
        fastest[count, ring] = float("inf")
    x = {"x": np.random.default_rng(0).uniform(-8, 8, elements).astype(np.float32)}
    for _ in range(RUNS):
        for row, (data, _, _) in plans.items():
            start = time.process_time()
            _native.run_in_memory(data, {}, [x], 1, threads=1)
            fastest[row] = min(fastest[row], time.process_time() - start)
    print(f"{elements} elements, block kernels {_native.cpu_info()['block']}")
    print("harmonics  ring  bytes/element  rounds  busiest link  CPU ns/element")
    for row in rows:
        _, sent, depth = plans[row]
        total = sum(sent.values())
        busiest = float(Fraction(6 * max(sent.values()), total))
        own = (fastest[row] - fastest[0, 64]) * 1e9 / elements
        # The input and the output take a round each.
        print(
            f"{row[0]:9}  {row[1]:4}  {total / elements:13.2f}  {depth - 2:6}"
            f"  {busiest:12.3f}  {own:14.0f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
