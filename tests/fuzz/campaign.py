"""The long run of the Python fuzzers: ``python -m tests.fuzz.campaign --minutes N [TARGET ...]``.

Targets take turns; the seed is printed and repeats the run. A file that a reader does not stand is
written into ``tests/fuzz/corpus/python/<target>/``, where the tests read it from then on. Prints a
table of files read and refused. ``--seeds`` writes one changed file per target instead, for the
corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import time
import traceback
from collections import Counter

import numpy as np

from tests.fuzz.python_edits import Edit
from tests.fuzz.python_targets import CORPUS, TARGETS, Target, compiled, run

LIMIT = 3 << 30
"""Bytes of address space: what would fill the machine's memory fails instead, and is kept."""


def say(text: str) -> None:
    """A line of the report, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def draw(rng: np.random.Generator) -> tuple[int, list[Edit]]:
    """How, and up to eight edits."""
    rows = rng.integers(0, 2**31, (int(rng.integers(1, 9)), 3))
    return int(rng.integers(0, 2**31)), [(int(a), int(b), int(c)) for a, b, c in rows]


def keep(target: Target, data: bytes) -> str:
    """Write a file into the corpus; its path."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(data)
    return str(path)


def main(argv: list[str]) -> int:
    """Run; the exit code is 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign")
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seeds", action="store_true", help="write corpus files and stop")
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)
    compiled()
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    chosen = [TARGETS[name] for name in options.targets]
    if options.seeds:
        for target in chosen:
            say(keep(target, target.mutate(*draw(rng))))
        return 0
    say(f"seed {options.seed}")
    seen: dict[str, Counter[str]] = {t.name: Counter() for t in chosen}
    spent = dict.fromkeys(seen, 0.0)
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        # The one that has had the least time.
        target = min(chosen, key=lambda t: spent[t.name])
        start = time.monotonic()
        for _ in range(max(1, 20 // target.cost)):
            data = target.mutate(*draw(rng))
            try:
                outcome = run(target, data)
            except Exception as error:
                outcome = f"{type(error).__name__}: {str(error)[:60]}"
                if outcome not in seen[target.name]:
                    say(f"{keep(target, data)}: {outcome}")
                    traceback.print_exc(limit=-4)
            seen[target.name][outcome] += 1
        spent[target.name] += time.monotonic() - start
    found = 0
    say("| target | files | read | refused | findings |\n|---|---|---|---|---|")
    for name, table in seen.items():
        others = table.total() - table["read"] - table["refused"]
        found += others
        say(f"| {name} | {table.total()} | {table['read']} | {table['refused']} | {others} |")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
