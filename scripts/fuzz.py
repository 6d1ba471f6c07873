"""A long run of the native fuzz targets, one after the other: ``make fuzz HOURS=8``.

With clang the targets are libFuzzer's, which look for inputs that reach new code; without it the
driver of this repository mutates the corpus with one seed after another. Inputs that reached
something new are kept in ``out/fuzz/corpus`` and used by the next run; inputs that broke something
are in ``out/fuzz/findings``, and the exit code is 1. Prints one line of a table per target, for
docs/fuzzing.md.

Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "runtime_native"
CORPUS = NATIVE / "fuzz" / "corpus"
TARGETS = ("graphdef", "execute", "artifact", "config", "text", "frames", "tls")
#: Mutations between two looks at the clock, where the driver has none of its own.
STRIDE = 2000
#: As the limit of one allocation in runtime_native/fuzz/options.cc.
MALLOC_MB = 64
#: The first that captures structured bindings in lambdas.
OLDEST_CLANG = 16


def clang() -> str | None:
    """A clang++ that knows the C++20 of the sources, the newest by name; None without one."""
    for name in (*(f"clang++-{version}" for version in range(30, OLDEST_CLANG - 1, -1)), "clang++"):
        found = shutil.which(name)
        if found is None:
            continue
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"version (\d+)", said.stdout)
        if version and int(version[1]) >= OLDEST_CLANG:
            return found
    return None


def build(folder: Path, compiler: str | None, jobs: int) -> None:
    """Configure and build the targets."""
    preset = "fuzz" if compiler else "asan-ubsan"
    given = [f"-DCMAKE_CXX_COMPILER={compiler}"] if compiler else []
    subprocess.run(["cmake", "--preset", preset, "-B", str(folder), *given], cwd=NATIVE, check=True)
    programs = [f"mpcc_fuzz_{name}" for name in TARGETS]
    subprocess.run(
        ["cmake", "--build", str(folder), "--parallel", str(jobs), "--target", *programs],
        check=True,
    )


def libfuzzer(program: Path, seconds: float, target: str, out: Path) -> tuple[int, str, int]:
    """One target for a time; returns executions, edges reached and the exit code."""
    kept = out / "corpus" / target
    findings = out / "findings" / target
    kept.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    log = out / f"{target}.log"
    with log.open("w") as file:
        code = subprocess.run(
            [
                str(program),
                f"-max_total_time={max(1, int(seconds))}",
                "-max_len=65536",
                f"-malloc_limit_mb={MALLOC_MB}",
                "-timeout=60",
                "-print_final_stats=1",
                f"-artifact_prefix={findings}/",
                str(kept),
                str(CORPUS / target),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(errors="replace")
    executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text) or re.findall(
        r"^#(\d+)", text, re.MULTILINE
    )
    edges = re.findall(r"\bcov: (\d+)", text)
    return int(executed[-1]) if executed else 0, edges[-1] if edges else "-", code


def driver(program: Path, seconds: float, target: str, out: Path) -> tuple[int, str, int]:
    """The same without libFuzzer."""
    findings = out / "findings" / target
    findings.mkdir(parents=True, exist_ok=True)
    executed = 0
    end = time.monotonic() + seconds
    # Not the seed of the short run, which would give its inputs again.
    seed = 1000
    with (out / f"{target}.log").open("w") as log:
        while time.monotonic() < end:
            arguments = [f"-runs={STRIDE}", f"-seed={seed}", f"-artifact_prefix={findings}/{seed}-"]
            code = subprocess.run(
                [str(program), *arguments, str(CORPUS / target)],
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
            if code != 0:
                return executed, "-", code
            executed += STRIDE
            seed += 1
    return executed, "-", 0


def main() -> int:
    """Build, run, print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="in all")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--engine", choices=("auto", "driver"), default="auto")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="of the build")
    given = parser.parse_args()
    compiler = clang() if given.engine == "auto" else None
    build(given.build, compiler, given.jobs)
    os.nice(19)
    given.out.mkdir(parents=True, exist_ok=True)
    run = libfuzzer if compiler else driver
    seconds = given.hours * 3600 / len(given.targets)
    failed = False
    print("| target | engine | executions | minutes | edges | findings |")
    print("|---|---|---|---|---|---|", flush=True)
    for target in given.targets:
        program = given.build / "fuzz" / f"mpcc_fuzz_{target}"
        start = time.monotonic()
        executed, edges, code = run(program, seconds, target, given.out)
        minutes = (time.monotonic() - start) / 60
        found = "none" if code == 0 else f"exit code {code}, see {given.out}/{target}.log"
        engine = "libFuzzer" if compiler else "driver"
        print(
            f"| {target} | {engine} | {executed} | {minutes:.1f} | {edges} | {found} |", flush=True
        )
        failed = failed or code != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
