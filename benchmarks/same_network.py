"""One network in two formats: basic-pitch as a SavedModel and as ONNX, and what differs.

``python -m benchmarks.same_network [--docs]`` compares the answers of both imports with those of
onnxruntime, and counts the operators of both fixed-point programs, in the same declared formats.
With ``--docs`` the table is written into docs/frontends.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
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


def programs() -> tuple[Program, Program]:
    """The SavedModel's program and the ONNX file's."""
    folder = fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp/{_FILES[0]}").parent
    for name in _FILES[1:]:
        fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp/{name}")
    file = fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp.onnx")
    shape = (1, _SAMPLES, 1)
    return (
        program(folder, {"input_2": shape}),
        program(file, {"serving_default_input_2:0": shape}),
    )


def largest_distance(both: tuple[Program, Program]) -> dict[str, float]:
    """Of both imports from onnxruntime, and from each other, on a chord: by the outputs' names."""
    file = fetch_file(real_models.PITCHES, f"{_FOLDER}/nmp.onnx")
    (sound,) = real_models.pitches().samples()[0].values()
    saved, converted = (
        real.run(p.imported.module, p.imported.constants, {p.imported.inputs[0].name: sound})
        for p in both
    )
    want = real_models.reference(file.read_bytes())({both[1].imported.inputs[0].name: sound})
    return {
        ours: max(
            float(np.abs(a.astype(np.float64) - b).max())
            for a, b in (
                (saved[ours], want[theirs]),
                (converted[theirs], want[theirs]),
                (saved[ours], converted[theirs]),
            )
        )
        for ours, theirs in _OUTPUTS.items()
    }


def compare(both: tuple[Program, Program]) -> dict[str, tuple[int, int]]:
    """Operators of the fixed-point programs whose numbers differ: of the SavedModel, of ONNX."""
    first, second = (p.secure for p in both)
    return {
        name: (first[name], second[name])
        for name in sorted(first | second)
        if first[name] != second[name]
    }


def table(both: tuple[Program, Program]) -> str:
    """What differs, in Markdown."""
    differ = compare(both)
    saved, converted = both
    equal = sum(n for name, n in saved.secure.items() if name not in differ)
    lines = ["| basic-pitch 0.4.0 | SavedModel | ONNX |", "|---|---|---|"]
    rows: list[tuple[str, str, str]] = [
        ("secure operators of equal number", str(equal), str(equal)),
        *((f"`{name}`", str(a), str(b)) for name, (a, b) in differ.items()),
        ("rounds", str(saved.rounds), str(converted.rounds)),
        ("MB", f"{saved.megabytes:.2f}", f"{converted.megabytes:.2f}"),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    far = max(largest_distance(both).values())
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
