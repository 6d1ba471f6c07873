"""The party interpreter: a party program with all places in one process, in numpy.

It is the oracle for every engine: keys come from explicit seeds, every message is counted, and any
value can be asked for. It hides nothing from its caller, so it is for tests, examples and
``mpcc run --engine party-interpreter`` only.

Phases are those of :mod:`mpcc.ir.schedule`. Depths are carried along with the values, as the
engine carries them in frame headers, so that measured rounds do not come from the schedule.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpcc.errors import MpccError
from mpcc.ir.calls import inline
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.ops import party
from mpcc.ir.schedule import ONLINE, SETUP, Message, schedule
from mpcc.ir.types import ClearType, PartyType, RingType, Type

__all__ = ["FreshKeys", "KeySource", "Run", "SeededKeys", "Sent", "Session", "aes_ctr", "run"]

Array = npt.NDArray[Any]


def aes_ctr(key: bytes, stream: int, nbytes: int) -> npt.NDArray[np.uint8]:
    """The first ``nbytes`` of an AES-128-CTR stream.

    Block j is AES_key(counter) with counter = stream id (u64, little endian) || j (u64, little
    endian); a draw always starts at block 0.
    """
    counters = np.empty((-(-nbytes // 16), 2), "<u8")
    counters[:, 0] = stream
    counters[:, 1] = np.arange(len(counters), dtype=np.uint64)
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    blocks = cipher.update(counters.tobytes()) + cipher.finalize()
    return np.frombuffer(blocks, np.uint8)[:nbytes]


class KeySource(Protocol):
    """Where draws come from: the engine's keys, test seeds, or enumerated coins."""

    def draw(self, key: str, phase: str, stream: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """The first bytes of a stream; phase is ``setup`` or ``run:<id>``."""


@dataclass(frozen=True, repr=False)
class SeededKeys:
    """Test keys: the first 16 bytes of SHA-256("mpcc-test-key" || seed || name || "/" || phase).

    ``seed`` is an unsigned 64-bit integer, little endian. The engine's in-memory test network
    derives the same keys; no networked transport accepts seeds.
    """

    seed: int

    def key(self, name: str, phase: str) -> bytes:
        """The AES-128 key that the holders ``name`` share in ``phase``."""
        text = b"mpcc-test-key" + self.seed.to_bytes(8, "little") + f"{name}/{phase}".encode()
        return hashlib.sha256(text).digest()[:16]

    def draw(self, key: str, phase: str, stream: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """See :class:`KeySource`."""
        return aes_ctr(self.key(key, phase), stream, nbytes)


class FreshKeys:
    """Unpredictable keys: HMAC-SHA256 of a fresh 32-byte secret over key name and phase."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def draw(self, key: str, phase: str, stream: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """See :class:`KeySource`."""
        text = f"{key}/{phase}".encode()
        return aes_ctr(hmac.digest(self._secret, text, "sha256")[:16], stream, nbytes)


@dataclass(frozen=True, repr=False)
class Sent(Message):
    """One executed transfer: the scheduled message with what was measured.

    Attributes:
        nbytes: measured.
        depth: measured: 1 + largest depth of what the payload depends on, within the phase.
        payload: bytes sent; None unless payloads are recorded.
    """

    payload: npt.NDArray[np.uint8] | None = None


@dataclass(repr=False)
class Run:
    """What one phase or run did.

    Attributes:
        outputs: opened values by output name, float32.
        values: values asked for with ``keep``.
        messages: transfers of the phase, in order of execution.
    """

    outputs: dict[str, Array] = field(default_factory=dict)
    values: dict[Value, Array] = field(default_factory=dict)
    messages: list[Sent] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Longest chain of dependent messages."""
        return max((m.depth for m in self.messages), default=0)

    @property
    def bytes_sent(self) -> dict[str, int]:
        """Payload bytes per directed link."""
        total: dict[str, int] = {}
        for message in self.messages:
            total[message.link] = total.get(message.link, 0) + message.nbytes
        return total


def _buffer(type_: PartyType, data: npt.NDArray[np.uint8]) -> Array:
    if isinstance(type_, RingType):
        word = np.dtype("<u8" if type_.ring == 64 else "<u4")
        words: Array = data.view(word).astype(word.newbyteorder("="), copy=True)
        words.shape = type_.shape
        return words
    return data.copy()


class Session:
    """A program with its keys and weights: setup once, then any number of runs.

    Args:
        module: party-level module.
        weights: ring words (or signed integers, wrapped) by weight name.
        keys: source of all draws.
        record: keep the payload of every message.
        keep: setup values to keep in :attr:`setup`; every setup value that a run needs is kept
            internally anyway.

    Raises:
        MpccError: the module is not of party level, or a weight is missing or misshapen.
    """

    def __init__(
        self,
        module: Module,
        weights: Mapping[str, Array],
        keys: KeySource,
        *,
        record: bool = False,
        keep: Iterable[Value] = (),
    ) -> None:
        if module.level != "party":
            raise MpccError.of("E-interp-level", f"a module of level {module.level} cannot run")
        # The ops that the schedule speaks of are those of the flat program.
        module = inline(module).module
        self._weights = weights
        self._keys = keys
        self._record = record
        plan = schedule(module)
        steps = plan.steps
        self._planned = {steps[m.index].op: m for m in plan.messages}
        self._setup_ops = [s.op for s in steps if s.phase == SETUP]
        self._online_ops = [s.op for s in steps if s.phase == ONLINE]
        needed = {v for op in self._online_ops for v in op.operands}
        self._base: dict[Value, Array] = {}
        self.setup = self._execute(self._setup_ops, SETUP, SETUP, {}, {*needed, *keep})
        self._base = self.setup.values

    def run(
        self, inputs: Mapping[str, Array], run_id: int = 1, *, keep: Iterable[Value] = ()
    ) -> Run:
        """One run.

        Args:
            inputs: float arrays by input name.
            run_id: names the run's keys; a caller never uses an id twice in a session.
            keep: values wanted in the result besides the outputs.

        Raises:
            MpccError: an input is missing or has the wrong shape.
        """
        result = self._execute(self._online_ops, ONLINE, f"run:{run_id}", inputs, set(keep))
        # An output of weights alone was opened in setup; it belongs to every run.
        result.outputs = {**self.setup.outputs, **result.outputs}
        return result

    def _execute(
        self,
        ops: list[Op],
        phase: str,
        key_phase: str,
        inputs: Mapping[str, Array],
        keep: set[Value],
    ) -> Run:
        result = Run()
        env: dict[Value, Array] = dict(self._base)
        depth: dict[Value, int] = {}
        last = {v: op for op in ops for v in op.operands}
        for op in ops:
            below = max((depth.get(v, 0) for v in op.operands), default=0)
            args = [env[v] for v in op.operands]
            if op.definition is party.Transfer:
                below += 1
                result.messages.append(self._sent(op, below, args[0]))
            if op.definition is party.Output:
                result.outputs[op.attrs["name"]] = args[0]
            for value, array in zip(
                op.results, self._evaluate(op, args, key_phase, inputs), strict=True
            ):
                env[value] = array
                depth[value] = below
            for value in (*op.operands, *op.results):
                if last.get(value, op) is op and value in env:
                    array = env.pop(value)
                    if value in keep:
                        result.values[value] = array
        for value in keep:
            if value in env:
                result.values[value] = env[value]
        return result

    def _sent(self, op: Op, depth: int, payload: Array) -> Sent:
        data = None
        if self._record:
            data = np.frombuffer(np.ascontiguousarray(payload).tobytes(), np.uint8)
        measured = {"nbytes": payload.nbytes, "depth": depth, "payload": data}
        return Sent(**{**vars(self._planned[op]), **measured})

    def _evaluate(
        self, op: Op, args: list[Array], phase: str, inputs: Mapping[str, Array]
    ) -> list[Array]:
        if op.body is not None:
            return self._region(op.body, args, phase, inputs)
        if not op.results:
            return []
        type_: Any = op.result.type
        if op.definition is party.Input:
            return [_given(inputs, op, "input", type_)]
        if op.definition is party.Weight:
            return [_given(self._weights, op, "weight", type_)]
        if op.definition in (party.DrawRing, party.DrawBits):
            own = SETUP if op.attrs["phase"] == SETUP else phase
            data = self._keys.draw(op.attrs["key"], own, op.attrs["stream"], type_.nbytes)
            return [_buffer(type_, data)]
        types: list[Type] = [v.type for v in op.operands]
        definition = op.definition
        if not issubclass(definition, party.PartyOperation):
            raise MpccError.of("E-interp-level", f"{op.name} is not a party op", op.loc)
        try:
            with np.errstate(over="ignore"):
                return [np.asarray(definition.evaluate(op.attrs, types, type_, *args))]
        except ValueError as error:
            # The one check at run time: an input outside its declared range.
            raise MpccError.of("E-interp-value", str(error), op.loc) from None

    def _region(
        self, body: Function, args: list[Array], phase: str, inputs: Mapping[str, Array]
    ) -> list[Array]:
        env: dict[Value, Array] = dict(zip(body.args, args, strict=True))
        for op in body.ops:
            results = self._evaluate(op, [env[v] for v in op.operands], phase, inputs)
            env.update(zip(op.results, results, strict=True))
        return [env[v] for v in body.returns]


def _given(table: Mapping[str, Array], op: Op, what: str, type_: RingType | ClearType) -> Array:
    name = op.attrs["name"]
    if name not in table:
        raise MpccError.of(f"E-interp-{what}", f"no {what} named {name!r} was given", op.loc)
    array = np.asarray(table[name])
    if array.shape != type_.shape:
        raise MpccError.of(
            f"E-interp-{what}",
            f"{what} {name!r} has shape {array.shape}, not {type_.shape}",
            op.loc,
        )
    if isinstance(type_, ClearType):
        return array.astype(np.float32)
    return array.astype(np.uint64 if type_.ring == 64 else np.uint32)


def run(
    module: Module,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    seed: int,
    *,
    keep: Iterable[Value] = (),
    record: bool = False,
) -> Run:
    """Setup and one run with test keys; messages of both phases, outputs and kept values."""
    keep = tuple(keep)
    session = Session(module, weights, SeededKeys(seed), record=record, keep=keep)
    result = session.run(inputs, keep=keep)
    result.messages = session.setup.messages + result.messages
    wanted = {v: a for v, a in session.setup.values.items() if v in set(keep)}
    result.values = {**wanted, **result.values}
    return result
