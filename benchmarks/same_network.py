"""One network in three formats: basic-pitch as SavedModel, ONNX, TensorFlow Lite; what differs.

``python -m benchmarks.same_network [--docs]`` compares the answers of all imports with those of
onnxruntime, and counts the operators of the fixed-point programs, in the same declared formats.
With ``--docs`` the table is written into docs/frontends.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import real_models
from benchmarks.pages import DOCS, rewrite
from examples.real_inputs import fetch_file
from mpcc import cost
from mpcc.frontend import import_model
from mpcc.frontend.importer import Imported
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.phi import FormatOptions
from mpcc.passes import pipeline
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.recognise import recognised
from mpcc.protocols import lower_program, protocol_named

__all__ = ["PAGE", "Program", "compare", "largest_distance", "programs", "table"]

Array = npt.NDArray[Any]

PAGE = DOCS / "frontends.md"

_FOLDER = "basic_pitch/saved_models/icassp_2022"
_FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
_SAMPLES = 43844
_OUTPUTS = {
    "contour": "StatefulPartitionedCall:0",
    "note": "StatefulPartitionedCall:1",
    "onset": "StatefulPartitionedCall:2",
}
"""The SavedModel's name of an output -> that of the ONNX file."""


@dataclass(frozen=True)
class Program:
    """One format's program.

    Attributes:
        imported: the tensor level and its constants.
        tensor: operators behind the tensor level's passes.
        secure: operators of the fixed-point program, of each kind.
        rounds: between three parties.
        megabytes: over all links.
    """

    imported: Imported
    tensor: Counter[str]
    secure: Counter[str]
    rounds: int
    megabytes: float


def program(source: Path, shapes: Mapping[str, tuple[int, ...]]) -> Program:
    """Import a file and lower it in declared formats."""
    imported = import_model(source, shapes)
    checkpoint = Checkpoint(DIALECTS)
    patterns = [found.row for found in recognised(imported.module, imported.constants)]
    module = Manager(pipeline.to_tensor(patterns), checkpoint).run(imported.module.clone())
    formats = FormatOptions(
        disclose="none",
        fraction_bits=12,
        value_range=1000.0,
        weight_range=200.0,
        input_ranges={port.name: (-1.0, 1.0) for port in imported.inputs},
        ring=64,
    )
    secure = Manager(pipeline.to_secure(declared_phi(module, formats), formats)).run(module.clone())
    protocol = protocol_named("rep3")
    lower = pipeline.to_party(lambda level: lower_program(level, protocol).party)
    counted = cost.count(Manager(lower).run(secure.clone()))
    online = [layer.online for layer in counted.layers]
    return Program(
        imported,
        Counter(op.name for op in module.main.ops),
        Counter(op.name for op in secure.main.ops),
        counted.online.rounds,
        sum(c.total_bytes for c in online) / 1e6,
    )


def programs() -> dict[str, Program]:
    """By the name of the format, the SavedModel's first."""
    folder = fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp/{_FILES[0]}").parent
    for name in _FILES[1:]:
        fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp/{name}")
    onnx, lite = (fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp.{n}") for n in ("onnx", "tflite"))
    shape = (1, _SAMPLES, 1)
    return {
        "SavedModel": program(folder, {"input_2": shape}),
        "ONNX": program(onnx, {"serving_default_input_2:0": shape}),
        "TensorFlow Lite": program(lite, {"input_2": shape}),
    }


def largest_distance(found: Mapping[str, Program]) -> float:
    """Of all imports from onnxruntime, and from each other, on a chord."""
    file = fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp.onnx")
    (sound,) = real_models.pitches().samples()[0].values()
    want = real_models.reference(file.read_bytes())({"serving_default_input_2:0": sound})
    answers = [{ours: want[theirs] for ours, theirs in _OUTPUTS.items()}]
    for p in found.values():
        (port,) = p.imported.inputs
        have = real.run(p.imported.module, p.imported.constants, {port.name: sound})
        answers.append({n: have[_OUTPUTS[n] if n not in have else n] for n in _OUTPUTS})
    return max(
        float(np.abs(a[n].astype(np.float64) - b[n]).max())
        for a, b in combinations(answers, 2)
        for n in _OUTPUTS
    )


def compare(found: Mapping[str, Program]) -> dict[str, tuple[int, ...]]:
    """Operators of the fixed-point programs whose numbers differ, in the order of the formats."""
    counts = [p.secure for p in found.values()]
    numbers = {name: tuple(c[name] for c in counts) for name in sorted(set().union(*counts))}
    return {name: row for name, row in numbers.items() if len(set(row)) > 1}


def table(found: Mapping[str, Program]) -> str:
    """What differs, in Markdown."""
    differ = compare(found)
    first = next(iter(found.values()))
    equal = sum(n for name, n in first.secure.items() if name not in differ)
    rows: list[tuple[str, ...]] = [
        ("basic-pitch 0.4.0", *found),
        ("---",) * (1 + len(found)),
        ("secure operators of equal number", *[str(equal)] * len(found)),
        *((f"`{name}`", *map(str, row)) for name, row in differ.items()),
        ("rounds", *(str(p.rounds) for p in found.values())),
        ("MB", *(f"{p.megabytes:.2f}" for p in found.values())),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    far = largest_distance(found)
    return "\n".join(lines) + f"\n\nLargest distance of an answer, in floating point: {far:.2g}."


def main() -> None:
    """Print the table, and write it down if asked."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--docs", action="store_true", help=f"write it to {PAGE.name}")
    given = parser.parse_args()
    text = table(programs())
    print(text)
    if given.docs:
        rewrite(PAGE, "same network", text)


if __name__ == "__main__":
    main()
