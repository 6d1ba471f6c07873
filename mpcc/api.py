"""The Python API: compile, simulate, run, inspect, predict cost.

With :mod:`mpcc.compiler` this module ties the packages together; nothing else imports all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType
from rich.table import Table

from mpcc import artifact as files
from mpcc import cost as costs
from mpcc import owner_report as owner
from mpcc.artifact import Artifact
from mpcc.compiler import Batches, Compiled, compile, output_paths
from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir import budget
from mpcc.ir.core import Op
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.dot import to_dot
from mpcc.ir.encodings import check_ids, encoded
from mpcc.ir.interp import fixed, real
from mpcc.ir.text import print_module
from mpcc.ir.types import place_of
from mpcc.options import DEBUG_VARIABLES, CompileOptions, is_real, to_float32
from mpcc.runtime import native
from mpcc.runtime.interpreter import interpret
from mpcc.runtime.party import Party
from mpcc.runtime.session import Session, forbid_core_dumps
from mpcc.version import VERSION

__all__ = [
    "Artifact",
    "Batches",
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
    "doctor",
    "forbid_core_dumps",
    "inspect",
    "load_stats",
    "ops_json",
    "ops_tables",
    "output_paths",
    "owner_report",
    "run_local",
    "simulate",
]

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Simulated:
    """Outputs of the fixed-point simulator.

    Attributes:
        outputs: arrays by output name: float32, or bool or int64 for truth values and positions.
        overflows: ops whose values left their declared range.
    """

    outputs: dict[str, Array] = field(repr=False)
    overflows: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """Outputs of a run and its statistics (the keys of ``stats.json``)."""

    outputs: dict[str, Array] = field(repr=False)
    stats: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Deviation:
    """One output against the reference.

    Attributes:
        deviation: largest distance.
        magnitude: the reference's largest value.
        decision: what is decided on the output (:mod:`mpcc.passes.analysis.contract`); empty if the
            program is not known.
        rows: decisions.
        agreeing: of these, the same as the reference's.
    """

    deviation: float
    magnitude: float
    decision: str = ""
    rows: int = 0
    agreeing: int = 0


@dataclass(frozen=True)
class Comparison:
    """A comparison with the model in floating point.

    Attributes:
        engine: what computed the reference.
        rows: by output name.
    """

    engine: str
    rows: dict[str, Deviation]


def weights_paths(given: PathLike) -> list[Path]:
    """Where the weights may be, for what the user named.

    Beside an artifact ``M.mpcc`` its ``M.weights``, for ``M.b8.mpcc`` also ``M.weights``, which the
    programs of all batch sizes share; of another file this file.
    """
    path = Path(given)
    if path.suffix != ".mpcc":
        return [path]
    shared = re.fullmatch(r"(.+)\.b[0-9]+", path.stem)
    names = [path.stem, *([shared[1]] if shared else [])]
    return [path.with_name(f"{name}.weights") for name in names]


def _inputs(artifact: Artifact, given: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as float32 of the right shapes and ranges; MpccError lists all that is wrong."""
    _check_interface(artifact)
    problems: list[Diagnostic] = []
    arrays: dict[str, Array] = {}
    ports = {port["name"]: port for port in artifact.inputs}
    for name in sorted(set(given) - set(ports)):
        problems.append(
            Diagnostic(
                "E-input-name",
                f"the program has no input {name!r}",
                "inputs",
                f"its inputs are {', '.join(ports)}",
            )
        )
    for name, port in ports.items():
        if name not in given:
            problems.append(
                Diagnostic(
                    "E-input-missing", f"input {name!r} is not given", "inputs", "add its array"
                )
            )
            continue
        array = np.asarray(given[name])
        shape, rows = tuple(port["shape"]), port.get("rows", 0)
        if rows:
            shape = shape[:-1]
        if not is_real(array) or array.shape != shape:
            problems.append(
                Diagnostic(
                    "E-input-shape",
                    f"needs numbers of shape {shape}, got {array.dtype} {array.shape}",
                    f"input {name}",
                    "give one such array; other sizes need another compilation with "
                    "--shape, where the model leaves the axis open",
                )
            )
            continue
        if rows:
            if not check_ids(array, rows):
                problems.append(
                    Diagnostic(
                        "E-input-range",
                        f"not all are whole numbers from {-rows} to {rows - 1}",
                        f"input {name}",
                        "these are numbers of a table's rows; give those of the model's vocabulary",
                    )
                )
                continue
            # Rows are many times as large: they are made when the program was found to fit.
            arrays[name] = array
            continue
        array = to_float32(array)
        # A comparison with NaN is false, so NaN is refused here too. The offending values are
        # the client's secret and stay out of the message.
        if not bool(np.all((array >= port["lo"]) & (array <= port["hi"]))):
            problems.append(
                Diagnostic(
                    "E-input-range",
                    f"values outside [{port['lo']}, {port['hi']}] or not finite",
                    f"input {name}",
                    "scale the data as the model expects it, or compile with --input-range",
                )
            )
        arrays[name] = array
    collect(problems)
    return arrays


def _read_weights(
    artifact: Artifact, weights: PathLike | Mapping[str, Array]
) -> Mapping[str, Array]:
    if isinstance(weights, Mapping):
        return weights
    paths = weights_paths(weights)
    found = [path for path in paths if path.is_file()]
    for path in found[:-1]:
        with contextlib.suppress(MpccError):
            return files.load_weights(path, artifact.program_sha256)
    if found:
        return files.load_weights(found[-1], artifact.program_sha256)
    raise MpccError.of(
        "E-file-missing",
        "the weights file does not exist",
        " or ".join(map(str, paths)),
        "name the file that `mpcc compile` wrote beside the artifact with --weights",
    )


def _weights(artifact: Artifact, weights: PathLike | Mapping[str, Array]) -> Mapping[str, Array]:
    """The weights, of the names, shapes, words and widths that the program declares.

    Raises:
        MpccError: every weight that does not fit, without any of its values.
    """
    found = _read_weights(artifact, weights)
    problems: list[Diagnostic] = []
    declared = {
        op.attrs["name"]: op.attrs for op in artifact.secure_module.main.walk("secure.weight")
    }
    for name in sorted(set(found) - set(declared)):
        problems.append(Diagnostic("E-weights-name", "the program has no such weight", name))
    for name, attrs in declared.items():
        if name not in found:
            problems.append(Diagnostic("E-weights-name", "not in the weights file", name))
            continue
        words = np.asarray(found[name])
        if words.shape != attrs["shape"] or words.dtype.kind not in "iu":
            kind = f"{words.dtype} {words.shape}"
            problems.append(
                Diagnostic("E-weights-shape", f"{kind}, not integers {attrs['shape']}", name)
            )
        elif 8 * words.dtype.itemsize != attrs["ring"]:
            problems.append(
                Diagnostic(
                    "E-weights-shape", f"{words.dtype}, not words of {attrs['ring']} bits", name
                )
            )
        else:
            signed = words.view(f"i{words.dtype.itemsize}")
            limit = 1 << min(attrs["width"], attrs["ring"] - 1)
            if not bool(np.all((signed > -limit) & (signed < limit))):
                problems.append(
                    Diagnostic("E-weights-range", f"values beyond {attrs['width']} bits", name)
                )
    collect(problems)
    return found


def _check_interface(artifact: Artifact) -> None:
    """Refuse an artifact whose manifest and program name different inputs or outputs."""
    main = artifact.secure_module.main
    program = {
        op.attrs["name"]: tuple(op.attrs[k] for k in ("shape", "owner", "lo", "hi", "rows"))
        for op in main.walk("secure.input")
    }
    manifest = {
        i["name"]: (tuple(i["shape"]), i["owner"], i["lo"], i["hi"], i.get("rows", 0))
        for i in artifact.inputs
    }
    opened = {op.attrs["name"]: op.attrs["owner"] for op in main.walk("secure.reveal")}
    if program != manifest or opened != {o["name"]: o["owner"] for o in artifact.outputs}:
        raise MpccError.of(
            "E-artifact-interface",
            "the manifest's inputs or outputs are not the program's",
            "manifest.json",
            "compile the model again",
        )


def simulate(
    artifact: Artifact,
    weights: PathLike | Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    rounding: fixed.Rounding = "random",
    seed: int = 0,
) -> Simulated:
    """Run the fixed-point program in the clear.

    Args:
        artifact: the program.
        weights: the weights file, the artifact's path beside it, or the arrays.
        inputs: float arrays by input name, in the program's shapes.
        rounding: of stochastic truncations: ``floor``, ``random``, ``worst``, or the coins of a
            run by op number.
        seed: of ``random``.

    Raises:
        MpccError: weights or inputs do not fit, or the program needs more than this machine has
            (``E-limit-…``).
    """
    module = artifact.secure_module
    budget.check(module)
    result = fixed.simulate(
        module,
        _weights(artifact, weights),
        _inputs(artifact, inputs),
        rounding=rounding,
        seed=seed,
    )
    outputs = artifact.decoded(result.outputs)
    return Simulated(outputs, tuple(o.loc or f"op {o.op}" for o in result.overflows))


def model_note(model: PathLike) -> str:
    """One line about how a model of this format is read; empty if there is nothing to say."""
    from mpcc.frontend import format_of

    return format_of(model).note


def compare(
    model: PathLike,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    artifact: Artifact | None = None,
) -> Comparison:
    """Compare outputs with the model in floating point.

    onnxruntime computes the reference where it is installed, mpcc's float interpreter otherwise.

    Args:
        model: path of the model.
        inputs: arrays by input name.
        outputs: what the program gave.
        artifact: the program; with it, decisions are compared too.

    Raises:
        MpccError: the model cannot be read, or has other inputs or outputs.
    """
    from mpcc.passes.analysis.contract import rules

    if not Path(model).exists():
        raise MpccError.of(
            "E-file-missing",
            "the reference model does not exist",
            os.fspath(model),
            "check --reference",
        )
    from mpcc.frontend import format_of, import_model

    try:
        import onnxruntime
    except ImportError:
        onnxruntime = None
    if onnxruntime is None or format_of(model).title != "ONNX":
        imported = import_model(model, {n: a.shape for n, a in inputs.items()})
        reference = real.run(imported.module, imported.constants, inputs)
        engine = "mpcc float interpreter"
    else:
        reference = _onnxruntime(model, inputs)
        engine = f"onnxruntime {onnxruntime.__version__}"
    collect(
        Diagnostic(
            "E-compare-output",
            f"the reference has no output {name!r} of shape {value.shape}",
            os.fspath(model),
            "give the model that was compiled",
        )
        for name, value in outputs.items()
        if name not in reference or np.shape(reference[name]) != value.shape
    )
    rows = {}
    decided = {} if artifact is None else rules(artifact.tensor_module)
    for name, value in outputs.items():
        # Truth values are subtracted as numbers.
        away = np.subtract(value, reference[name], dtype=np.float64)
        found = Deviation(
            float(np.max(np.abs(away), initial=0.0)),
            float(np.max(np.abs(reference[name]), initial=0.0)),
        )
        if name in decided:
            rule = decided[name]
            same = rule.decide(value) == rule.decide(reference[name])
            found = replace(
                found, decision=rule.text, rows=len(same), agreeing=int(np.count_nonzero(same))
            )
        rows[name] = found
    return Comparison(engine, rows)


_ONNXRUNTIME_TYPES = {
    f"tensor({name})": np.dtype(numpy)
    for name, numpy in {
        "bool": "bool",
        "double": "float64",
        "float16": "float16",
        **{f"{s}int{bits}": f"{s}int{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}


def _onnxruntime(model: PathLike, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a model by name. onnxruntime's own messages may show values and are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(model), options, providers=["CPUExecutionProvider"]
        )
        names = [o.name for o in session.get_outputs()]
        types = {i.name: _ONNXRUNTIME_TYPES.get(i.type, np.float32) for i in session.get_inputs()}
        feeds = {n: np.asarray(a).astype(types.get(n, np.float32)) for n, a in inputs.items()}
        return dict(zip(names, session.run(names, feeds), strict=True))
    # Its errors have no common class but Exception.
    except Exception as error:
        raise MpccError.of(
            "E-compare-model",
            f"onnxruntime cannot run the reference on these inputs ({type(error).__name__})",
            os.fspath(model),
            "give the model that was compiled",
        ) from None


def run_local(
    artifact: Artifact,
    weights: PathLike | Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    engine: str = "native",
    network: str = "none",
    repeat: int = 1,
    threads: int = 1,
    deadline: float = 10.0,
    run_limit: float = 3600.0,
    max_memory: int | None = None,
    max_work: int | None = None,
    require_verified: bool = True,
    trace: PathLike | None = None,
) -> RunResult:
    """Run the three parties on this machine; the caller is client and model owner.

    Args:
        artifact: the program.
        weights: the weights file, the artifact's path beside it, or the arrays.
        inputs: float arrays by input name.
        engine: ``native`` (three processes, mutual TLS 1.3) or ``party-interpreter`` (all places
            in this process, for checking).
        network: ``none``, or ``lan`` or ``wan`` imitated on every link (native engine).
        repeat: runs in one session; each has its own keys.
        threads: compute threads of each party.
        deadline: seconds that any one message may take.
        run_limit: seconds that a run, or the setup, may take (native engine).
        max_memory: bytes that a party may need; a program that needs more is refused before
            anything is allocated. None: three quarters of the machine's memory.
        max_work: multiply-adds that a party may do in a run; None: 10^13.
        require_verified: whether a program that the leak checker refuses is refused here.
        trace: file for what every endpoint did when, as Chrome trace events (native engine).

    Raises:
        MpccError: inputs or weights do not fit, the program leaks (``E-run-unverified``), it needs
            too much (``E-limit-…``), or a party failed (``E-net-…``, ``E-party-…``).
    """
    from mpcc.emit.graphdef import parse

    data, words = _inputs(artifact, inputs), _weights(artifact, weights)
    if require_verified:
        refuse_unverified(artifact)
    if engine == "party-interpreter":
        if trace is not None:
            raise MpccError.of(
                "E-option-trace",
                "the interpreter of parties has no timeline",
                "--trace",
                "use --engine native",
            )
        module = parse(artifact.program)
        budget.check(module, max_memory, max_work)
        ports = {port["name"]: port for port in artifact.inputs}
        data = {name: encoded(array, ports[name]) for name, array in data.items()}
        outputs, stats = interpret(
            module, artifact.protocol, words, data, repeat, max_memory, max_work
        )
        return RunResult(artifact.decoded(outputs), stats)
    with Session(
        artifact,
        words,
        network=network,
        threads=threads,
        deadline=deadline,
        run_limit=run_limit,
        max_memory=max_memory,
        max_work=max_work,
        trace=None if trace is None else Path(trace),
    ) as live:
        runs = [live.run(data) for _ in range(repeat)]
        return RunResult(runs[-1].outputs, live.statistics(runs))


def refuse_unverified(artifact: Artifact) -> None:
    """Refuse a program that tells somebody more than the outputs to their owners.

    Raises:
        MpccError: ``E-run-unverified``, and what the leak checker found.
    """
    from mpcc.verify_program import verify_artifact

    report = verify_artifact(artifact)
    if not report.accepted:
        raise MpccError(
            Diagnostic(
                "E-run-unverified",
                "the program leaks, or is not what its secure form says",
                "program.pb",
                f"compile the model again: this is mpcc {VERSION}, the program was made by mpcc "
                f"{artifact.compiler_version}",
            ),
            *report.all_problems,
        )


def inspect(artifact: Artifact, stage: str, party: int | None = None, form: str = "text") -> str:
    """The program at one level as text.

    Args:
        artifact: the program.
        stage: ``tensor``, ``secure`` or ``party``; the party level is decoded from the GraphDef.
        party: keep only ops and messages at this compute party.
        form: ``text`` or ``dot`` (Graphviz).
    """
    from mpcc.emit.graphdef import parse

    if stage == "party":
        module = parse(artifact.program)
    else:
        module = artifact.tensor_module if stage == "tensor" else artifact.secure_module
    if party is not None and stage != "party":
        raise MpccError.of(
            "E-option-party", "only the party level has parties", "--party", "add --stage party"
        )
    keep = None if party is None else _concerns(f"P{party}")
    return to_dot(module, keep) if form == "dot" else print_module(module, keep)


def _concerns(place: str) -> Callable[[Op], bool]:
    """Whether a party op runs at a place, sends from it, or receives there."""

    def keep(op: Op) -> bool:
        return place in {place_of(v.type) for v in (*op.operands, *op.results)}

    return keep


def cost(artifact: Artifact, network: str = "lan") -> costs.Report:
    """The cost of the program that is in the artifact, under a network profile.

    Raises:
        MpccError: the profile is unknown or malformed.
    """
    from mpcc.emit.graphdef import parse
    from mpcc.protocols import protocol_named

    threat_model = protocol_named(artifact.protocol).threat_model
    return costs.predict(
        parse(artifact.program), costs.profile(network), artifact.manifest, threat_model
    )


def diff(
    before: Artifact,
    after: Artifact,
    network: str = "lan",
    before_path: PathLike | None = None,
    after_path: PathLike | None = None,
) -> costs.Difference:
    """What changed in cost, formats and accuracy from one artifact to another.

    Args:
        before: the first artifact.
        after: the second.
        network: profile of the times.
        before_path: its file; errors come from the private report beside it, if there is one.
        after_path: likewise.

    Raises:
        MpccError: the profile is unknown, or a private report is damaged.
    """
    private = (_private_beside(before_path), _private_beside(after_path))
    return costs.compare(cost(before, network), cost(after, network), private)


def _private_beside(path: PathLike | None) -> dict[str, Any]:
    """The owner's private report beside an artifact; empty where there is none."""
    report = None if path is None else Path(path).with_suffix(".private.json")
    if report is None or not report.is_file():
        return {}
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise MpccError.of("E-file-format", "not a private report", str(report), "remove it")
    return found


def cost_page(
    artifact: Artifact,
    report: costs.Report,
    measured: Mapping[str, Any] | None = None,
    accuracy: Mapping[str, str] | None = None,
    picture: str = "",
) -> str:
    """The cost report as one self-contained HTML page; arguments as for ``Report.html``."""
    return report.html(measured, accuracy, picture, disclosed_bits=artifact.disclosed_bits)


def load_stats(path: PathLike) -> dict[str, Any]:
    """Statistics that ``mpcc run --json`` wrote.

    Raises:
        MpccError: no such file, or not what ``run`` writes.
    """
    fix = "write it with `mpcc run --json`"
    try:
        stats = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MpccError.of(
            "E-file-missing", f"cannot read: {error.strerror}", str(path), fix
        ) from None
    except (ValueError, RecursionError):
        stats = None
    if not _are_stats(stats):
        raise MpccError.of("E-file-format", "no statistics of `mpcc run`", str(path), fix)
    return dict(stats)


def _are_stats(value: Any) -> bool:
    """Whether a JSON value has the figures that the report shows, in their types."""

    def number(x: Any) -> bool:
        # An integer may be too long for a float.
        return type(x) in (int, float) and abs(x) < 2.0**64

    if not isinstance(value, dict):
        return False
    seconds, sent = value.get("online_seconds"), value.get("bytes_sent")
    optional = [value.get(key) for key in ("setup_seconds", "max_deviation")]
    return (
        isinstance(seconds, list)
        and len(seconds) > 0
        and all(number(s) for s in seconds)
        and isinstance(sent, dict)
        and all(type(n) is int for n in (value.get("rounds"), *sent.values()))
        and all(x is None or number(x) for x in optional)
    )


@dataclass(frozen=True)
class Check:
    """One line of ``mpcc doctor``."""

    name: str
    ok: bool
    required: bool
    detail: str


def owner_report(path: PathLike, *, all_layers: bool = False) -> list[RenderableType]:
    """The model owner's private report for people.

    Args:
        path: ``M.private.json``.
        all_layers: show every layer in the model's order, not only those with the largest shares
            of the error.

    Raises:
        MpccError: no such file, or no private report of this version.
    """
    if not Path(path).is_file():
        raise MpccError.of(
            "E-file-missing",
            "the private report does not exist",
            os.fspath(path),
            "`mpcc compile` writes it beside the artifact",
        )
    return owner.tables(files.load_private(Path(path)), None if all_layers else owner.SHOWN)


def doctor() -> list[Check]:
    """Examine this installation."""
    import importlib.metadata
    import platform

    checks = [Check("python", True, True, platform.python_version())]
    checks += [Check(*row) for row in native.checks()]
    for package, use in (
        ("onnxruntime", "reference of simulate --reference and of the demo"),
        ("tensorflow-cpu", "checks that TensorFlow reads the emitted graph"),
    ):
        try:
            checks.append(Check(package, True, False, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(package, False, False, use))
    for variable, effect in DEBUG_VARIABLES.items():
        value = os.environ.get(variable)
        detail = effect if value is None else f"set to {value!r}; {effect}"
        checks.append(Check(variable, value is not None, False, detail))
    return checks


def ops_json(accuracy: bool = False) -> str:
    """All ONNX operators as JSON, see :func:`mpcc.operators.to_json`.

    With ``accuracy``: their worst errors, see :func:`mpcc.operator_errors.to_json`.
    """
    from mpcc import operator_errors, operators

    if accuracy:
        return json.dumps(operator_errors.to_json(), indent=1) + "\n"
    return json.dumps(operators.to_json(), indent=1) + "\n"


def ops_tables(accuracy: bool = False) -> list[Table]:
    """Tables of what is supported: ONNX operators, protocols, operators of every level.

    With ``accuracy``: one of the worst errors of the operators instead.
    """
    from mpcc import operator_errors, operators
    from mpcc.protocols import PROTOCOLS

    if accuracy:
        return [operator_errors.table()]

    protocols = Table("protocol", "what it is", "against whom", title="protocols")
    for protocol in PROTOCOLS.values():
        protocols.add_row(protocol.name, protocol.summary, protocol.threat_model)
    tables = [*operators.tables(), protocols]
    for level, dialect in DIALECTS.items():
        table = Table("operator", "operands", "what it does", title=f"{level} IR")
        for operation in dialect.operations.values():
            first = (operation.__doc__ or "").strip().splitlines()[0]
            table.add_row(operation.name, ", ".join(operation.operands), first)
        tables.append(table)
    return tables
