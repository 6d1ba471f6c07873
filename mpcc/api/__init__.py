"""The Python API: compile, simulate, run, inspect, predict cost.

With :mod:`mpcc.compiler` this package ties the others together; nothing else imports all of them.
"""

from __future__ import annotations

from mpcc.api.checking import refuse_unverified, verify
from mpcc.api.comparison import Comparison, Deviation, compare, model_note
from mpcc.api.data import weights_paths
from mpcc.api.execution import RunResult, Simulated, run_local, simulate
from mpcc.api.installation import Check, doctor, ops_json, ops_tables
from mpcc.api.showing import (
    cost,
    cost_page,
    cost_tree,
    diff,
    inspect,
    load_stats,
    load_trace,
    owner_report,
    program_page,
    write_tensorboard,
)
from mpcc.artifact import Artifact
from mpcc.compiler import Batches, Compiled, compile, output_paths
from mpcc.options import CompileOptions
from mpcc.runtime.exposure import PROTECTION as TENSORFLOW_PROTECTION
from mpcc.runtime.party import Party
from mpcc.runtime.probe import measure as measure_network
from mpcc.runtime.session import Session, forbid_core_dumps

__all__ = [
    "TENSORFLOW_PROTECTION",
    "Artifact",
    "Batches",
    "Check",
    "Comparison",
    "CompileOptions",
    "Compiled",
    "Deviation",
    "Party",
    "RunResult",
    "Session",
    "Simulated",
    "compare",
    "compile",
    "cost",
    "cost_page",
    "cost_tree",
    "diff",
    "doctor",
    "forbid_core_dumps",
    "inspect",
    "load_stats",
    "load_trace",
    "measure_network",
    "model_note",
    "ops_json",
    "ops_tables",
    "output_paths",
    "owner_report",
    "program_page",
    "refuse_unverified",
    "run_local",
    "simulate",
    "verify",
    "weights_paths",
    "write_tensorboard",
]
