"""Compiles models: the driver of importer, passes, analysis, lowering and cost.

:mod:`mpcc.api` has its public names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table

from mpcc import cost as costs
from mpcc.artifact import Artifact, write_private, write_weights
from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.files import atomic_files
from mpcc.ir.after import after_rows
from mpcc.ir.calls import called, inline
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.local import local_rows, public_names
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.options import CompileOptions, calibration_samples, check_batches, check_writable
from mpcc.reports import agreement_lines
from mpcc.version import VERSION

if TYPE_CHECKING:
    from mpcc.frontend.importer import Disclosed, Imported
    from mpcc.ir.core import Module
    from mpcc.passes.analyse import Analysis
    from mpcc.passes.base import Checkpoint
    from mpcc.passes.partition import LocalInput
    from mpcc.passes.rules.patterns import Found

__all__ = ["Batches", "Compiled", "batch_path", "compile", "output_paths", "phi_of"]

Array = npt.NDArray[Any]
PathLike: TypeAlias = str | os.PathLike[str]

NEAR_ROUND_BYTES = 125_000
"""What a link carries in the time of a round at 10 Gbit/s and 0.1 ms: programs are made for that
unless the network is farther than this."""

MOST_WRITTEN_OUT = 1000
"""Tensor ops of a model whose steps are written out. Only those of larger ones are functions: what
stands between functions is brought into one form, which takes messages (docs/levels.md), and
choosing formats and lowering take a time that grows with the ops."""


@dataclass(frozen=True)
class Compiled:
    """What a compilation gives.

    Attributes:
        artifact: the public program.
        weights: folded fixed-point weights by name, the model owner's own.
        private: exact ranges, errors per layer and the like, the model owner's own.
        cost: the predicted cost.
        notes: sentences for the user: assumed ranges, what is undefined beyond them.
        seconds: (stage, wall time) of all stages, in order.
    """

    artifact: Artifact
    weights: Mapping[str, Array] = field(repr=False)
    private: Mapping[str, Any] = field(repr=False)
    cost: costs.Report
    notes: tuple[str, ...]
    seconds: tuple[tuple[str, float], ...] = field(repr=False)

    def save(self, path: PathLike) -> list[Path]:
        """Write the artifact, and beside it the weights and the private report (mode 0600).

        All three appear, or none.

        Returns:
            The three paths.

        Raises:
            MpccError: the name does not end in ``.mpcc``, or a file cannot be written there.
        """
        public, weights, private = paths = output_paths(path)
        _save({public: self.artifact}, weights, self.weights, private, self.private)
        return list(paths)

    def summary(self) -> RenderableType:
        """A short table for people: owners, formats, accuracy, cost, what is disclosed."""
        from mpcc.protocols import protocol_named

        phi = phi_of(self.artifact)
        table = Table("", "", show_header=False)
        protocol = protocol_named(self.artifact.protocol)
        table.add_row("protocol", f"{protocol.name}: {protocol.threat_model}")
        owned = {op.attrs["owner"] for op in self.artifact.secure_module.main.walk("secure.weight")}
        for kind, owners in (
            *((f"input {p['name']}", {p["owner"]}) for p in self.artifact.inputs),
            ("weights", owned),
            *((f"output {p['name']}", {p["owner"]}) for p in self.artifact.outputs),
        ):
            who = ", ".join(sorted(owners)) or "none"
            table.add_row(kind, "public: every party sees it" if who == "public" else f"of {who}")
        table.add_row(
            "numbers",
            f"Z_2^{phi.ring}, {phi.frac} fraction bits, ranges {phi.policy}"
            + (f"; {len(phi.others)} ops in Z_2^{96 - phi.ring}" if phi.others else ""),
        )
        for port in self.artifact.inputs:
            table.add_row(f"input {port['name']}", f"enforced range [{port['lo']}, {port['hi']}]")
        if "public" in owned:
            table.add_row(
                "public weights", "products with them send nothing but for their truncations"
            )
        for owner, text in local_rows(self.artifact.tensor_module):
            table.add_row(f"{owner} computes", f"{text}, before sharing")
        for owner, name, steps in after_rows(self.artifact.tensor_module):
            text = f"{steps} of {name}, after the reveal: it learns the scores"
            table.add_row(f"{owner} computes", text)
        error = max(self.private["measured_error"].values(), default=0.0)
        table.add_row(
            "error",
            f"{error:.2g} measured on sample inputs, budget {self.private['max_error']:.2g}",
        )
        for text in agreement_lines(self.private["agreement"]):
            table.add_row("agreement", text)
        for label, text in self.cost.headline():
            table.add_row(label, text)
        bits = self.artifact.disclosed_bits
        how = "" if bits else ": made from the architecture and declared ranges alone"
        table.add_row("disclosed", f"{bits} bits of formats{how}")
        for text in self.artifact.disclosed:
            table.add_row("disclosed", f"{text}, a constant of the model")
        return table


@dataclass(frozen=True)
class Batches:
    """Programs of one model for several batch sizes, which share formats and weights.

    Attributes:
        programs: by batch size, in the order that was asked for; the weights and the private report
            of all are the same ones.
    """

    programs: Mapping[int, Compiled]

    @property
    def weights(self) -> Mapping[str, Array]:
        """The weights of all programs, the model owner's own."""
        return self._smallest.weights

    @property
    def private(self) -> Mapping[str, Any]:
        """The private report, of the smallest batch; ``batches`` has the errors of the others."""
        return self._smallest.private

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user."""
        return self._smallest.notes

    @property
    def _smallest(self) -> Compiled:
        return self.programs[min(self.programs)]

    def save(self, path: PathLike) -> list[Path]:
        """Write ``M.b1.mpcc``, ``M.b8.mpcc``, ... and one ``M.weights`` and ``M.private.json``.

        All files appear, or none.

        Args:
            path: ``M.mpcc``; no file of this name is written.

        Returns:
            The paths.

        Raises:
            MpccError: the name does not end in ``.mpcc``, or a file cannot be written there.
        """
        *public, weights, private = paths = output_paths(path, tuple(self.programs))
        artifacts = {p: c.artifact for p, c in zip(public, self.programs.values(), strict=True)}
        _save(artifacts, weights, self.weights, private, self.private)
        return list(paths)

    def summary(self) -> RenderableType:
        """The table of the smallest batch, and one with the cost of every batch."""
        table = Table("batch", *(label for label, _ in self._smallest.cost.headline()))
        for size, compiled in self.programs.items():
            table.add_row(str(size), *(text for _, text in compiled.cost.headline()))
        return Group(self._smallest.summary(), table)


def _save(
    artifacts: Mapping[Path, Artifact],
    weights: Path,
    words: Mapping[str, Array],
    private: Path,
    report: Mapping[str, Any],
) -> None:
    with atomic_files() as create:
        write_private(create, private, report)
        programs = [artifact.program_sha256 for artifact in artifacts.values()]
        write_weights(create, weights, words, programs)
        # Last: what others see is there only when it can run.
        for path, artifact in artifacts.items():
            with create(path) as file:
                file.write(artifact.to_bytes())


def batch_path(path: PathLike, batch: int) -> Path:
    """Where the program of one of several batch sizes goes: ``M.mpcc`` -> ``M.b8.mpcc``."""
    return Path(path).with_suffix(f".b{batch}.mpcc")


def output_paths(path: PathLike, batches: Sequence[int] = ()) -> tuple[Path, ...]:
    """Artifacts, weights and private report that go together, checked before work is done for them.

    Args:
        path: ``M.mpcc``.
        batches: batch sizes of several programs; each has a file of its own then.

    Raises:
        MpccError: the name does not end in ``.mpcc`` (another file could be overwritten then), or
            a file cannot be written there.
    """
    public = Path(path)
    if public.suffix != ".mpcc":
        raise MpccError.of(
            "E-option-output",
            f"{public} does not end in .mpcc",
            "--output",
            f"write {public.with_suffix('.mpcc') if public.name else 'M.mpcc'}",
        )
    programs = [batch_path(public, n) for n in batches] or [public]
    paths = (*programs, public.with_suffix(".weights"), public.with_suffix(".private.json"))
    for each in paths:
        check_writable(each, "--output")
    return paths


def phi_of(artifact: Artifact) -> Phi:
    """The formats of an artifact.

    Raises:
        MpccError: ``E-phi-format``.
    """
    return Phi.from_json(json.dumps(dict(artifact.phi)))


def _nothing(step: str) -> None:
    """No progress wanted."""


@overload
def compile(
    model: PathLike | bytes,
    *,
    options: CompileOptions | None = ...,
    calibration: Mapping[str, Array] | None = ...,
    batch: int | None = ...,
    network: str = ...,
    dump_after: Sequence[str] = ...,
    dump: Callable[[str], None] | None = ...,
    progress: Callable[[str], None] = ...,
) -> Compiled: ...


@overload
def compile(
    model: PathLike | bytes,
    *,
    options: CompileOptions | None = ...,
    calibration: Mapping[str, Array] | None = ...,
    batch: Sequence[int],
    network: str = ...,
    dump_after: Sequence[str] = ...,
    dump: Callable[[str], None] | None = ...,
    progress: Callable[[str], None] = ...,
) -> Batches: ...


def compile(
    model: PathLike | bytes,
    *,
    options: CompileOptions | None = None,
    calibration: Mapping[str, Array] | None = None,
    batch: int | Sequence[int] | None = None,
    network: str = "lan",
    dump_after: Sequence[str] = (),
    dump: Callable[[str], None] | None = None,
    progress: Callable[[str], None] = _nothing,
) -> Compiled | Batches:
    """Compile a model.

    Args:
        model: path of an ONNX file, of the folder of a SavedModel, of a Keras file or of one of
            TensorFlow Lite; or the bytes of an ONNX file.
        options: see :class:`mpcc.options.CompileOptions`.
        calibration: sample inputs, [samples, ...] per input name; seen by the analysis only. With
            ``batch``, rows of batches, see :func:`mpcc.options.calibration_samples`.
        batch: size of the first axis of inputs that leave it open; or several sizes, for one
            program each. Formats are chosen for the smallest and must hold for all.
        network: ``lan``, ``wan``, ``edge``, ``none`` or a TOML file: that of the cost report. For
            one whose rounds cost more than those of ``lan``, the program with the shortest
            predicted time is taken; its answers are those of any other.
        dump_after: stages after which the IR goes to ``dump``, see
            :data:`mpcc.passes.pipeline.STAGES`; ``all`` for all.
        dump: takes IR text.
        progress: told the name of each stage as it begins.

    Returns:
        One program, or with several sizes :class:`Batches`.

    Raises:
        MpccError: the model, the options or the data; all problems at once where possible.
            ``E-batch-…``: programs for these batch sizes cannot share formats or weights.
    """
    from mpcc.passes import pipeline

    sizes: tuple[int | None, ...] = (None,)
    if batch is not None:
        chosen_sizes = (batch,) if isinstance(batch, int) else tuple(batch)
        check_batches(chosen_sizes)
        sizes = chosen_sizes
    collect(
        Diagnostic(
            "E-option-pass",
            f"no pass {name!r}",
            "--dump-after",
            f"known: all, {', '.join(pipeline.STAGES)}",
        )
        for name in dump_after
        if name not in ("all", *pipeline.STAGES)
    )
    compiler = _Compiler(options or CompileOptions(), network, dump_after, dump, progress)
    made = compiler.run(model, sizes, calibration)
    if batch is None or isinstance(batch, int):
        return made[sizes[0]]
    return Batches({size: made[size] for size in sizes if size is not None})


@dataclass
class _Model:
    """A model at one batch size, until its program is built.

    Attributes:
        size: the batch; None where the model has none.
        imported: what the importer gave.
        module: the tensor module behind the passes.
        constants: its weights by name.
        samples: calibration data as inputs of the model.
        checkpoint: of all its stages.
        patterns: functions that were recognised by the values of constants.
        formats: options of the formats, with ranges of what owners hand over.
        given: inputs of which owners compute what is shared.
        alone: outputs that one owner could compute from its own data and public values.
    """

    size: int | None
    imported: Imported
    module: Module
    constants: Mapping[str, Array]
    samples: Sequence[Mapping[str, Array]]
    checkpoint: Checkpoint
    patterns: Sequence[Found] = ()
    formats: FormatOptions = field(default_factory=FormatOptions)
    given: Sequence[LocalInput] = ()
    alone: Sequence[str] = ()

    def disclosed(self) -> Iterator[Disclosed]:
        """Constants of the model that everybody learns."""
        from mpcc.frontend.importer import Disclosed

        yield from self.imported.disclosed
        for found in filter(lambda found: found.told, self.patterns):
            yield Disclosed(found.title, found.loc, found.told, None)


class _Compiler:
    """One call of :func:`compile`."""

    def __init__(
        self,
        options: CompileOptions,
        network: str,
        dump_after: Sequence[str],
        dump: Callable[[str], None] | None,
        progress: Callable[[str], None],
    ) -> None:
        from mpcc.protocols import protocol_named

        self.options = options
        self.protocol = protocol_named(options.protocol)
        self.profile = costs.profile(network)
        self.dump_after = dump_after
        self.dump = dump
        self.progress = progress
        self.flat = False

    def run(
        self,
        model: PathLike | bytes,
        sizes: Sequence[int | None],
        calibration: Mapping[str, Array] | None,
    ) -> dict[int | None, Compiled]:
        """A program for every size; formats are those of the smallest."""
        # Formats that are declared, that batches share, or whose rings differ are those of ops of
        # @main: functions are written out there.
        formats = self.options.formats
        self.flat = formats.disclose == "none" or bool(formats.rings) or len(sizes) > 1
        source = model if isinstance(model, bytes) else os.fspath(model)
        first = min(sizes, key=lambda n: n or 0)
        base = self.read(source, first, calibration)
        analysis = self.analyse(base)
        others: list[tuple[_Model, Phi]] = []
        errors: dict[str, dict[str, float]] = {}
        for size in sizes:
            if size != first:
                other = self.read(source, size, calibration, base.imported.constants)
                phi, errors[str(size)] = self.share(base, analysis, other)
                others.append((other, phi))
        private = {**analysis.private, "batches": errors} if errors else analysis.private
        notes = (*base.imported.notes, *analysis.notes)
        made = {first: self.build(base, analysis.phi, private, notes)}
        weights = made[first].weights
        for other, phi in others:
            built = self.build(other, phi, private, notes)
            _check_weights(base, weights, other, built.weights)
            made[other.size] = Compiled(
                built.artifact, weights, private, built.cost, notes, built.seconds
            )
        return made

    def tell(self, size: int | None, step: str) -> None:
        """Say which stage begins."""
        self.progress(step if size is None else f"{step}, batch {size}")

    def imported(self, source: str | bytes, size: int | None, calls: bool = False) -> Imported:
        """The model as imported; ``calls``: with functions for what repeats."""
        from mpcc.frontend import import_model

        chosen = self.options
        return import_model(
            source, chosen.shapes, chosen.owners, chosen.weights, size, chosen.signature, calls
        )

    def read(
        self,
        source: str | bytes,
        size: int | None,
        calibration: Mapping[str, Array] | None,
        known: Mapping[str, Array] | None = None,
    ) -> _Model:
        """Import the model and run the passes of the tensor level.

        ``known``: constants of the batch size that is compiled first, if this is another.
        """
        from mpcc.frontend.batches import share_rows
        from mpcc.passes import pipeline
        from mpcc.passes.base import Checkpoint, Manager, Result
        from mpcc.passes.recognise import recognised

        chosen = self.options
        checkpoint = Checkpoint(DIALECTS, self.dump_after, self.dump)
        self.tell(size, "importing")
        with checkpoint.timed(pipeline.IMPORT):
            imported = plain = self.imported(source, size)
            if len(plain.module.main.ops) > MOST_WRITTEN_OUT and not (
                self.flat or _looks_up(plain.module)
            ):
                imported = self.imported(source, size, calls=True)
            if known is not None:
                imported = share_rows(imported, known)
        checkpoint.look(pipeline.IMPORT, Result(imported.module, True))
        patterns: Sequence[Found] = ()
        if chosen.formats.disclose != "none":
            with checkpoint.timed("find-patterns"):
                patterns = recognised(imported.module, imported.constants)
                if called(imported.module):
                    # Patterns are rows of @main: one that a function has part in writes it out.
                    everywhere = recognised(plain.module, plain.constants)
                    if len(everywhere) != len(patterns):
                        imported, patterns = plain, everywhere
        passes = pipeline.to_tensor([found.row for found in patterns])
        module = Manager(passes, checkpoint).run(imported.module)
        constants = checkpoint.constants(imported.constants)
        shapes = {port.name: port.shape for port in imported.inputs}
        samples: Sequence[Mapping[str, Array]] = ()
        if calibration is not None:
            samples = calibration_samples(calibration, shapes, imported.batched)
        model = _Model(size, imported, module, constants, samples, checkpoint, patterns)
        return self.divide(model)

    def divide(self, model: _Model) -> _Model:
        """What owners of inputs compute themselves leaves @main; samples are prepared by it."""
        from mpcc.ir.local import prepared
        from mpcc.passes import pipeline
        from mpcc.passes.base import Manager
        from mpcc.passes.partition import alone, prepare_formats

        module, formats = model.module, self.options.formats
        names = tuple(alone(module.main))
        passes = pipeline.to_owners(self.options.reveal_logits, self.options.local != "none")
        module = Manager(passes, model.checkpoint).run(module)
        with model.checkpoint.timed("prepare-samples"):
            formats, given = prepare_formats(module, model.constants, formats, bool(model.samples))
            samples = [prepared(module, model.constants, sample) for sample in model.samples]
        return replace(
            model, module=module, formats=formats, samples=samples, given=given, alone=names
        )

    def analyse(self, model: _Model) -> Analysis:
        """Choose the number formats."""
        from mpcc.passes.analyse import analyse
        from mpcc.passes.declared_formats import analyse_declared

        formats = model.formats
        choose = analyse_declared if formats.disclose == "none" else analyse
        self.tell(model.size, "choosing number formats")
        with model.checkpoint.timed("analyse"):
            return choose(
                model.module,
                model.constants,
                model.samples,
                formats,
                self.options.min_agreement,
                model.size or 1,
            )

    def share(
        self, base: _Model, analysis: Analysis, other: _Model
    ) -> tuple[Phi, dict[str, float]]:
        """The formats of one batch size for another, and the errors that they have there."""
        from mpcc.passes.analysis.batches import Batch, formats_of_batch, measure_batch

        formats = base.formats
        known, new = (Batch(m.size or 1, m.module, m.constants, m.samples) for m in (base, other))
        self.tell(other.size, "checking number formats")
        with other.checkpoint.timed("analyse"):
            phi = formats_of_batch(known, analysis.phi, analysis.observed, new, formats)
            return phi, measure_batch(new, phi, formats)

    def for_network(
        self, module: Module, phi: Phi, formats: FormatOptions
    ) -> tuple[FormatOptions, str]:
        """The options that give the fastest program on the network, and what to tell of it.

        The programs are predicted with the built-in speeds, so that the choice is the same on all
        machines.
        """
        from mpcc.passes import pipeline
        from mpcc.passes.base import Manager
        from mpcc.protocols import lower_program

        def predicted(options: FormatOptions) -> tuple[float, int]:
            to_party = pipeline.to_party(lambda level: lower_program(level, self.protocol).party)
            secure = Manager(pipeline.to_secure(phi, options)).run(module.clone())
            party = inline(Manager(to_party).run(secure)).module
            time = costs.timeline(costs.Workload.of(party), costs.BUILT_IN, self.profile)
            return time.seconds, len(time.rounds)

        far = replace(formats, round_bytes=self.profile.round_bytes)
        (seconds, rounds), (near_seconds, near_rounds) = predicted(far), predicted(formats)
        times = [costs.format_seconds(s) for s in (seconds, near_seconds)]
        if seconds >= near_seconds:
            return formats, (
                f"network {self.profile.name}: the program for a local network is the fastest "
                f"({times[1]} predicted; with few rounds {times[0]})"
            )
        return far, (
            f"network {self.profile.name}: few rounds rather than few bytes: {rounds} rounds and "
            f"{times[0]} predicted, for a local network {near_rounds} rounds and {times[1]}"
        )

    def build(
        self, model: _Model, phi: Phi, private: Mapping[str, Any], notes: tuple[str, ...]
    ) -> Compiled:
        """The program and the encoded weights, in formats that are chosen."""
        from mpcc.emit.graphdef import emit
        from mpcc.passes import pipeline
        from mpcc.passes.base import Manager
        from mpcc.passes.lower_tensor_to_secure import encode_weights
        from mpcc.protocols import lower_program

        chosen, checkpoint, module = self.options, model.checkpoint, model.module
        phi = replace(phi, patterns=tuple(found.row for found in model.patterns))
        if not chosen.keep_names:
            module = Manager(pipeline.PUBLISH, checkpoint).run(module)

        formats, chosen_for = model.formats, ""
        if self.profile.round_bytes > NEAR_ROUND_BYTES:
            self.tell(model.size, "choosing the program for the network")
            with checkpoint.timed("choose-for-network"):
                formats, chosen_for = self.for_network(module, phi, formats)

        self.tell(model.size, "building the fixed-point program")
        secure = Manager(pipeline.to_secure(phi, formats), checkpoint).run(module)

        self.tell(model.size, "lowering to the parties")
        to_party = pipeline.to_party(lambda level: lower_program(level, self.protocol).party)
        party = Manager(to_party, checkpoint).run(secure)
        with checkpoint.timed("emit"):
            program = emit(party)

        self.tell(model.size, "predicting cost")
        with checkpoint.timed("cost"):
            report = costs.predict(party, self.profile)
        with checkpoint.timed("encode-weights"):
            names = [op.attrs["name"] for op in module.main.walk(tensor.Weight.name)]
            constants = {n: model.constants[checkpoint.renamed.get(n, n)] for n in names}
            weights = encode_weights(constants, secure)
        public = {n: model.constants[checkpoint.renamed.get(n, n)] for n in public_names(module)}
        imported = model.imported
        artifact = Artifact.create(
            tensor_module=module,
            secure_module=secure,
            program=program,
            protocol=self.protocol.name,
            phi=phi.public(),
            formats=formats.public(),
            disclosed=list(dict.fromkeys(d.text(chosen.keep_names) for d in model.disclosed())),
            inputs=[op.attrs for op in secure.main.walk("secure.input")],
            outputs=[asdict(port) for port in imported.outputs],
            # Networks that everybody knows: the user's own is not a matter of the program.
            cost=report.cost.to_json([costs.PROFILES["lan"], costs.PROFILES["wan"]]),
            version=VERSION,
            local=[asdict(port) for port in model.given],
            after=[name for _, name, _ in after_rows(module)],
            public=public,
        )
        notes = (*notes, *_local_notes(model), *([chosen_for] if chosen_for else []))
        return Compiled(artifact, weights, private, report, notes, tuple(checkpoint.seconds))


def _looks_up(module: Module) -> bool:
    """Whether an input is taken as positions or truth values: known from its uses in @main."""
    main = module.main
    return any(
        tensor.looked_up(main, op) or tensor.input_range(main, op) is not None
        for op in main.walk(tensor.Input.name)
    )


def _local_notes(model: _Model) -> list[str]:
    """What is said of owners' own work."""
    from mpcc.passes.partition import ANY_RANGE

    notes = []
    for name in model.alone:
        notes.append(
            f"output {name} depends on one owner's inputs and public values alone: that owner can "
            "compute it without anybody (the parties compute it here)"
        )
    for port in model.given:
        if (port.lo, port.hi) == ANY_RANGE:
            notes.append(
                f"input {port.name}: any numbers; what its owner makes of them has ranges from "
                "calibration, which the owner's library enforces (--input-range declares one)"
            )
        elif not port.whole:
            notes.append(
                f"input {port.name}: its owner's library enforces [{port.lo:g}, {port.hi:g}]"
            )
    return notes


def _check_weights(
    base: _Model, weights: Mapping[str, Array], other: _Model, found: Mapping[str, Array]
) -> None:
    """Refuse batches whose programs need other weights.

    Raises:
        MpccError: ``E-batch-weights``: every weight that differs, by the model's name for it.
    """
    problems: list[Diagnostic] = []
    for name in sorted({*weights, *found}):
        one, two = weights.get(name), found.get(name)
        if one is not None and two is not None and np.array_equal(one, two):
            continue
        kept = base if one is not None else other
        first = name.rpartition(":f")[0] if name not in kept.checkpoint.renamed else name
        shapes = [str(list(a.shape)) if a is not None else "absent" for a in (one, two)]
        how = "values" if shapes[0] == shapes[1] else f"shapes ({' and '.join(shapes)})"
        problems.append(
            Diagnostic(
                "E-batch-weights",
                f"a constant has other {how} in batches of {base.size} and {other.size}",
                kept.checkpoint.renamed.get(first, name),
                "compile every batch alone: a file of weights cannot serve both",
            )
        )
    collect(problems)
