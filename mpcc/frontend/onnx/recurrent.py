"""ONNX recurrent layers: RNN, GRU, LSTM.

Where calls are wanted, a step is a function that is called (:mod:`mpcc.ir.calls`): steps that do
the same, all but the first one and those at ends of sequences, have one body. Otherwise, and where
there are few, steps are written out.

The input's part of all gates and of both directions is one matrix product, of all steps together
where they are written out. A step then has one product of the state, batched over gates and
directions, and both directions take their steps together: a bidirectional layer has the rounds of
one direction. Sums stay products until an activation function takes them, so that a step truncates
its gates once.

Which steps a sequence has (``sequence_lens``) is public: a constant. Elements beyond a sequence's
end are moved, not multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.compose import cut, negative, scaled
from mpcc.frontend.onnx.indexing import masked, rearranged
from mpcc.frontend.onnx.linear import product
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.calls import FEWEST_CALLS
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["MAX_STEPS", "OPERATORS"]

MAX_STEPS = 1024
"""Steps of a recurrent layer or of a loop."""

_Function: TypeAlias = Callable[[Value], Value]


# --- activation functions ------------------------------------------------------------------------


def _affine(node: Node, x: Value, alpha: float, beta: float) -> Value:
    return node.emit(tensor.Add, scaled(node, x, alpha), node.public(f"beta_{beta!r}", beta))


def _leaky(node: Node, x: Value, alpha: float, beta: float) -> Value:
    positive = node.emit(tensor.Relu, x)
    return node.emit(tensor.Add, scaled(node, x, alpha), scaled(node, positive, 1.0 - alpha))


def _thresholded(node: Node, x: Value, alpha: float, beta: float) -> Value:
    limit = node.public(f"alpha_{alpha!r}", alpha)
    zero = node.public("zero", 0.0)
    return node.emit(tensor.Where, node.emit(tensor.Less, limit, x), x, zero)


def _scaled_tanh(node: Node, x: Value, alpha: float, beta: float) -> Value:
    return scaled(node, node.emit(tensor.Tanh, scaled(node, x, beta)), alpha)


def _hard_sigmoid(node: Node, x: Value, alpha: float, beta: float) -> Value:
    return node.emit(tensor.Clip, _affine(node, x, alpha, beta), lo=0.0, hi=1.0)


@dataclass(frozen=True)
class _Activation:
    """A function of these layers, and the defaults of its parameters.

    A default of None means that it takes no such parameter, NaN that it must be given.
    """

    run: Callable[[Node, Value, float, float], Value]
    alpha: float | None = None
    beta: float | None = None


# Names are compared without regard to case, as onnxruntime does. Defaults are those of the
# operators of the same names, as ONNX says; ONNX has no Affine and no ScaledTanh any more.
_ACTIVATIONS: Mapping[str, _Activation] = {
    "affine": _Activation(_affine, math.nan, math.nan),
    "hardsigmoid": _Activation(_hard_sigmoid, 0.2, 0.5),
    "leakyrelu": _Activation(_leaky, 0.01),
    "relu": _Activation(lambda node, x, alpha, beta: node.emit(tensor.Relu, x)),
    "scaledtanh": _Activation(_scaled_tanh, math.nan, math.nan),
    "sigmoid": _Activation(lambda node, x, alpha, beta: node.emit(tensor.Sigmoid, x)),
    "tanh": _Activation(lambda node, x, alpha, beta: node.emit(tensor.Tanh, x)),
    # onnxruntime's default is not that of the operator ThresholdedRelu.
    "thresholdedrelu": _Activation(_thresholded, math.nan),
}


def _functions(node: Node, directions: int, defaults: Sequence[str]) -> list[_Function]:
    """The activation functions, the same for every direction.

    Raises:
        Unsupported: one is not offered, or directions have different ones.
    """
    names = [*defaults] * directions
    if node.has("activations"):
        names = list(node.texts("activations"))
    if len(names) != len(defaults) * directions:
        node.refuse(
            f"{len(names)} activations, not {len(defaults)} for each of {directions} directions"
        )
    alphas = iter(node.numbers("activation_alpha") if node.has("activation_alpha") else ())
    betas = iter(node.numbers("activation_beta") if node.has("activation_beta") else ())
    chosen: list[tuple[str, float, float]] = []
    for name in names:
        known = _ACTIVATIONS.get(name.lower())
        if known is None:
            node.refuse(
                f"the activation {name}", f"supported are {', '.join(sorted(_ACTIVATIONS))}"
            )
        alpha, beta = _next(alphas, known.alpha), _next(betas, known.beta)
        if math.isnan(alpha + beta):
            node.refuse(f"the activation {name} without alpha or beta, which have no default")
        chosen.append((name.lower(), alpha, beta))
    own = chosen[: len(defaults)]
    if directions == 2 and chosen[len(defaults) :] != own:
        node.refuse("directions with different activations", "use the same ones for both")
    limit = node.number("clip", 0.0)
    # As in onnxruntime, the cell of an LSTM is not clipped on its way into the state.
    limits = [limit, limit, 0.0]
    return [partial(_activate, node, *pair) for pair in zip(limits, own, strict=False)]


def _next(given: Iterator[float], default: float | None) -> float:
    """The next parameter that is given, if the function takes one."""
    return 0.0 if default is None else next(given, default)


def _activate(node: Node, limit: float, chosen: tuple[str, float, float], x: Value) -> Value:
    """An activation function behind the layer's clip; ``limit`` 0 means none."""
    name, alpha, beta = chosen
    if limit:
        x = node.emit(tensor.Clip, x, lo=-abs(limit), hi=abs(limit))
    return _ACTIVATIONS[name].run(node, x, alpha, beta)


# --- the layer -----------------------------------------------------------------------------------


class _Layer:
    """What RNN, GRU and LSTM have in common.

    Values of a step have the axes [directions, batch, ...]. The second direction, or the only one
    of a reverse layer, sees its sequences from their ends on.

    Attributes:
        node: the node.
        gates: per step, as the operator has them.
        directions, steps, batch, hidden: sizes.
        lengths: per sequence, how many steps it has.
    """

    def __init__(self, node: Node, gates: int) -> None:
        self.node, self.gates = node, gates
        # Given or not, R says it too.
        node.has("hidden_size")
        self.first = node.integer("layout", 0) if node.opset >= 14 else 0
        direction = node.text("direction", "forward")
        if direction not in ("forward", "reverse", "bidirectional"):
            node.refuse(f"direction {direction}")
        self.turned = {"forward": [False], "reverse": [True]}.get(direction, [False, True])
        self.directions = len(self.turned)
        shape = node.shape(0)
        if len(shape) != 3 or len(node.shape(2)) != 3:
            node.refuse(f"data {list(shape)} and recurrent weights {list(node.shape(2))}")
        self.steps, self.batch = (shape[1], shape[0]) if self.first else shape[:2]
        self.width, self.hidden = shape[2], node.shape(2)[2]
        for index, columns in ((1, self.width), (2, self.hidden)):
            wanted = (self.directions, gates * self.hidden, columns)
            if node.shape(index) != wanted:
                node.refuse(f"weights {list(node.shape(index))}, not {list(wanted)}")
        if self.steps > MAX_STEPS:
            node.refuse(
                f"{self.steps} steps; a program has {MAX_STEPS} at most",
                "give fewer steps at a time, and hand the state on as an input and an output",
            )
        self.calls = node.builder.calls and self.steps >= FEWEST_CALLS
        self._entry: tuple[Operand, Operand | None] | None = None
        # The largest list of positions is that of all gates.
        node.room(self.steps, self.batch, self.directions, gates * self.hidden)
        self.lengths = self._lengths()
        # Per step, direction and sequence: the element of the sequence that is looked at.
        order = np.arange(self.steps)[:, None].repeat(self.batch, axis=1)
        ends = np.where(order < self.lengths, self.lengths - 1 - order, order)
        self.order = np.stack([ends if turned else order for turned in self.turned], axis=1)

    def _lengths(self) -> Array:
        if self.node.optional(4) is None:
            return np.full(self.batch, self.steps)
        found = np.array(self.node.integers(4, "its list of sequence lengths"))
        if found.shape != (self.batch,) or found.min() < 0 or found.max() > self.steps:
            self.node.refuse(f"{found.size} sequence lengths for {self.batch} sequences")
        return found

    def bias(self, gates: int) -> Operand | None:
        """What is added to the input's part: its bias, and the state's of the first gates."""
        found = self.node.optional(3)
        if found is None:
            return None
        size, inner = self.gates * self.hidden, gates * self.hidden
        if type_of(found).shape != (self.directions, 2 * size):
            self.node.refuse(f"biases {list(type_of(found).shape)}")

        def both(array: Array) -> Array:
            total = array[:, :size].copy()
            total[:, :inner] += array[:, size : size + inner]
            return total

        if isinstance(found, Constant):
            return self.node.builder.derive(found, f"both_of_{inner}", both)
        rest = self.part(found, size, size + inner)
        if inner < size:
            rest = self.node.emit(tensor.Pad, rest, low=(0, 0), high=(0, size - inner))
        return self.node.emit(tensor.Add, self.part(found, 0, size), rest)

    def state_bias(self, gate: int) -> Operand | None:
        """The state's bias of one gate, [directions, 1, hidden]."""
        found = self.node.optional(3)
        if found is None:
            return None
        start = (self.gates + gate) * self.hidden
        shape = (self.directions, 1, self.hidden)
        return self.node.reshape(self.part(found, start, start + self.hidden), shape)

    def part(self, operand: Operand, start: int, limit: int) -> Operand:
        """Columns of an operand; of a constant, cut by its owner."""
        if isinstance(operand, Constant):
            return self.node.builder.derive(
                operand, f"columns_{start}_{limit}", lambda a: a[..., start:limit]
            )
        return cut(self.node, operand, len(type_of(operand).shape) - 1, start, limit)

    def columns(self, x: Value, *gates: int) -> Value:
        """Some gates of [..., gates * hidden], which follow each other."""
        start, limit = gates[0] * self.hidden, (gates[-1] + 1) * self.hidden
        return cut(self.node, x, len(type_of(x).shape) - 1, start, limit)

    def recurrent(self, *gates: int) -> Operand:
        """The state's weights of some gates, [directions, hidden, gates * hidden]."""
        turned = self.node.transpose(self.node.operand(2), (0, 2, 1))
        if len(gates) == self.gates:
            return turned
        return self.part(turned, gates[0] * self.hidden, (gates[-1] + 1) * self.hidden)

    def inputs(self, bias: Operand | None) -> list[Value]:
        """Per step what :meth:`entered` makes the input's part of.

        Of steps that are written out the part itself, of all steps one product. Of steps that are
        called the data, an activation as all arguments: the product is a matter of the step, which
        truncates its gates once.
        """
        node, size = self.node, self.gates * self.hidden
        rows = node.reshape(node.operand(0), (self.steps * self.batch, self.width))
        if self.calls:
            shape = (self.directions, 1, size)
            self._entry = (
                node.transpose(node.operand(1), (0, 2, 1)),
                None if bias is None else node.reshape(bias, shape),
            )
            parts = node.emit(tensor.Activation, node.real(rows))
            return self._ordered(parts, 1, self.width)
        weights = node.reshape(node.operand(1), (self.directions * size, self.width))
        parts = node.emit(tensor.MatMul, rows, node.transpose(weights, (1, 0)))
        if bias is not None:
            row = node.reshape(bias, (self.directions * size,))
            parts = node.emit(tensor.Add, parts, row)
        return self._ordered(parts, self.directions, size)

    def entered(self, x: Value) -> Value:
        """The input's part of all gates in a step, [directions, batch, gates * hidden]."""
        if self._entry is None:
            return x
        weights, bias = self._entry
        return self.sum(product(self.node, x, weights), bias)

    def _ordered(self, parts: Value, directions: int, size: int) -> list[Value]:
        """Per step [all directions, batch, size] of rows of ``size`` numbers.

        Args:
            parts: a row by sequence, step and direction.
            directions: 1 if all directions have the same rows.
            size: of a row.
        """
        node = self.node
        place = np.arange(self.steps * self.batch * directions)
        at = place.reshape(self.steps, self.batch, directions)
        if self.first:
            at = place.reshape(self.batch, self.steps, directions).transpose(1, 0, 2)
        batch, direction = np.arange(self.batch), np.arange(self.directions) % directions
        taken = at[self.order, batch[None, None, :], direction[None, :, None]]
        columns = np.arange(size)
        ordered = rearranged(node, parts, taken[..., None] * size + columns)
        return [
            node.emit(
                tensor.Reshape,
                cut(node, ordered, 0, step, step + 1),
                shape=(self.directions, self.batch, size),
            )
            for step in range(self.steps)
        ]

    def called(self, emit: Callable[[], Sequence[Value]]) -> Sequence[Value]:
        """What a step appends, as a function that is called."""
        if not self.calls:
            return emit()
        found = self.node.builder.call(self.node.label, emit)
        return [v for v in found if isinstance(v, Value)]

    def initial(self, index: int) -> Value | None:
        """An initial state [directions, batch, hidden]; None if it is absent, and so zero."""
        found = self.node.optional(index)
        if found is None:
            return None
        if self.first:
            found = self.node.transpose(found, (1, 0, 2))
        if type_of(found).shape != (self.directions, self.batch, self.hidden):
            self.node.refuse(f"an initial state {list(type_of(found).shape)}")
        return self.node.real(found)

    def kept(self, step: int, new: Value, old: Value | None) -> Value:
        """The new state, but the old one (or zeros) where a sequence has ended."""
        live = step < self.lengths
        if live.all():
            return new
        size = self.directions * self.batch * self.hidden
        shape = (self.directions, self.batch, self.hidden)
        there = np.arange(size).reshape(shape)
        mask = np.broadcast_to(live[None, :, None], shape)
        if old is None:
            return masked(self.node, new, np.where(mask, 1 + there, 0))
        both = self.node.emit(
            tensor.Concat,
            *(self.node.emit(tensor.Reshape, v, shape=(size,)) for v in (new, old)),
            axis=0,
        )
        return rearranged(self.node, both, np.where(mask, there, size + there))

    def outputs(self, states: Sequence[Value], *last: Value | None) -> tuple[Value, ...]:
        """Y of all steps' states, then the last ones."""
        node = self.node
        found: list[Value] = []
        steps, directions, batch, hidden = self.steps, self.directions, self.batch, self.hidden
        flat = [node.emit(tensor.Reshape, s, shape=(directions * batch * hidden,)) for s in states]
        every = flat[0] if steps == 1 else node.emit(tensor.Concat, *flat, axis=0)
        # The step at which an element of a sequence is looked at is found as the element was.
        rows = np.arange(steps * directions * batch).reshape(steps, directions, batch)
        at = rows[self.order, np.arange(directions)[None, :, None], np.arange(batch)[None, None, :]]
        places = at[..., None] * hidden + np.arange(hidden)
        live = (np.arange(steps)[:, None] < self.lengths)[:, None, :, None]
        if self.first:
            places, live = places.transpose(2, 0, 1, 3), live.transpose(2, 0, 1, 3)
        if live.all():
            found.append(rearranged(node, every, places))
        else:
            found.append(masked(node, every, np.where(live, 1 + places, 0)))
        for state in last:
            if state is None:  # ONNX has no sequences of no steps
                break
            found.append(
                node.emit(tensor.Transpose, state, perm=(1, 0, 2)) if self.first else state
            )
        return tuple(found)

    def sum(self, *values: Operand | None) -> Value:
        """The sum of those that are there."""
        given = [v for v in values if v is not None]
        total = self.node.real(given[0])
        for value in given[1:]:
            total = self.node.emit(tensor.Add, total, value)
        return total

    def times(self, state: Value | None, weights: Operand) -> Value | None:
        """The state's part of gates; None of no state."""
        if state is None:
            return None
        return self.node.real(product(self.node, state, weights))

    def mixed(self, gate: Value, old: Value | None, new: Value) -> Value:
        """The mean (1 - gate) new + gate old: one product."""
        node = self.node
        difference = negative(node, new) if old is None else node.emit(tensor.Sub, old, new)
        return node.emit(tensor.Add, new, node.emit(tensor.Mul, gate, difference))


# --- operators -----------------------------------------------------------------------------------


def rnn(node: Node) -> tuple[Operand, ...]:
    """RNN: a step is a function; directions take theirs together."""
    layer = _Layer(node, 1)
    (f,) = _functions(node, layer.directions, ["Tanh"])
    weights, state = layer.recurrent(0), layer.initial(5)
    states: list[Value] = []
    for step, x in enumerate(layer.inputs(layer.bias(1))):

        def run(step: int = step, x: Value = x, state: Value | None = state) -> list[Value]:
            new = f(layer.sum(layer.entered(x), layer.times(state, weights)))
            return [layer.kept(step, new, state)]

        (state,) = layer.called(run)
        states.append(state)
    return layer.outputs(states, states[-1])


def gru(node: Node) -> tuple[Operand, ...]:
    """GRU: a step is a function; directions take theirs together; the reset before or after."""
    layer = _Layer(node, 3)
    f, g = _functions(node, layer.directions, ["Sigmoid", "Tanh"])
    after = bool(node.integer("linear_before_reset", 0))
    gates = _gru_after(layer, f, g) if after else _gru_before(layer, f, g)
    state = layer.initial(5)
    states: list[Value] = []
    for step, x in enumerate(layer.inputs(layer.bias(2 if after else 3))):

        def run(step: int = step, x: Value = x, state: Value | None = state) -> list[Value]:
            update, candidate = gates(layer.entered(x), state)
            return [layer.kept(step, layer.mixed(update, state, candidate), state)]

        (state,) = layer.called(run)
        states.append(state)
    return layer.outputs(states, states[-1])


_Gates: TypeAlias = Callable[[Value, Value | None], tuple[Value, Value]]


def _gru_before(layer: _Layer, f: _Function, g: _Function) -> _Gates:
    """The reset is applied to the state, before its product."""
    first, last = layer.recurrent(0, 1), layer.recurrent(2)

    def run(x: Value, state: Value | None) -> tuple[Value, Value]:
        gates = f(layer.sum(layer.columns(x, 0, 1), layer.times(state, first)))
        reset = None
        if state is not None:
            reset = layer.node.emit(tensor.Mul, layer.columns(gates, 1), state)
        candidate = g(layer.sum(layer.columns(x, 2), layer.times(reset, last)))
        return layer.columns(gates, 0), candidate

    return run


def _gru_after(layer: _Layer, f: _Function, g: _Function) -> _Gates:
    """The reset is applied to the state's product: one product for all gates."""
    weights, own = layer.recurrent(0, 1, 2), layer.state_bias(2)

    def run(x: Value, state: Value | None) -> tuple[Value, Value]:
        node = layer.node
        moved = layer.times(state, weights)
        if moved is None:
            gates, share = f(layer.columns(x, 0, 1)), None if own is None else node.real(own)
        else:
            gates = f(layer.sum(layer.columns(x, 0, 1), layer.columns(moved, 0, 1)))
            # The state's share of the candidate, which the reset multiplies.
            share = layer.sum(layer.columns(moved, 2), own)
        candidate = layer.columns(x, 2)
        if share is not None:
            reset = node.emit(tensor.Mul, layer.columns(gates, 1), share)
            candidate = layer.sum(candidate, reset)
        return layer.columns(gates, 0), g(candidate)

    return run


def lstm(node: Node) -> tuple[Operand, ...]:
    """LSTM: a step is a function; directions take theirs together; peepholes, coupled gates."""
    layer = _Layer(node, 4)
    f, g, h = _functions(node, layer.directions, ["Sigmoid", "Tanh", "Tanh"])
    coupled = bool(node.integer("input_forget", 0))
    peeps = _peepholes(layer)
    weights = layer.recurrent(0, 1, 2, 3)
    state, cell = layer.initial(5), layer.initial(6)
    states: list[Value] = []
    for step, x in enumerate(layer.inputs(layer.bias(4))):

        def run(
            step: int = step,
            x: Value = x,
            state: Value | None = state,
            cell: Value | None = cell,
        ) -> list[Value]:
            total = layer.sum(layer.entered(x), layer.times(state, weights))
            before = _lstm_gates(layer, total, f, cell, peeps, coupled)
            candidate = g(layer.columns(total, 3))
            new = node.emit(tensor.Mul, before.input, candidate)
            if cell is not None:
                new = node.emit(tensor.Add, node.emit(tensor.Mul, before.forget, cell), new)
            output = before.output
            if output is None:
                seen = node.emit(tensor.Mul, new, peeps[1])
                output = f(layer.sum(layer.columns(total, 1), seen))
            out = node.emit(tensor.Mul, output, h(new))
            return [layer.kept(step, out, state), layer.kept(step, new, cell)]

        state, cell = layer.called(run)
        states.append(state)
    return layer.outputs(states, states[-1], cell)


@dataclass(frozen=True)
class _Before:
    """Gates of an LSTM's step before the cell is renewed; the output gate may have to wait."""

    input: Value
    forget: Value
    output: Value | None


def _peepholes(layer: _Layer) -> list[Operand]:
    """Weights of the cell in the input, output and forget gate, [directions, 1, hidden]."""
    found, hidden = layer.node.optional(7), layer.hidden
    if found is None:
        return []
    if type_of(found).shape != (layer.directions, 3 * hidden):
        layer.node.refuse(f"peepholes {list(type_of(found).shape)}")
    shape = (layer.directions, 1, hidden)
    parts = [layer.part(found, i * hidden, (i + 1) * hidden) for i in range(3)]
    return [layer.node.reshape(part, shape) for part in parts]


def _lstm_gates(
    layer: _Layer,
    total: Value,
    f: _Function,
    cell: Value | None,
    peeps: Sequence[Operand],
    coupled: bool,
) -> _Before:
    """The gates of one step, in ONNX's order input, output, forget."""
    node = layer.node
    if not peeps:
        gates = f(layer.columns(total, 0, 1) if coupled else layer.columns(total, 0, 1, 2))
        entry, output = layer.columns(gates, 0), layer.columns(gates, 1)
        forget = _other(node, entry) if coupled else layer.columns(gates, 2)
        return _Before(entry, forget, output)
    seen = [None, None] if cell is None else [node.emit(tensor.Mul, cell, peeps[i]) for i in (0, 2)]
    parts = [layer.sum(layer.columns(total, 0), seen[0])]
    if not coupled:
        parts.append(layer.sum(layer.columns(total, 2), seen[1]))
    gates = f(node.emit(tensor.Concat, *parts, axis=2))
    entry = layer.columns(gates, 0)
    return _Before(entry, _other(node, entry) if coupled else layer.columns(gates, 1), None)


def _other(node: Node, gate: Value) -> Value:
    """1 - gate."""
    return node.emit(tensor.Sub, node.public("one", 1.0), gate)


OPERATORS: Mapping[str, Operator] = {
    "GRU": Operator(gru, "computed lengths; directions with different activations", "clip"),
    "LSTM": Operator(lstm, "computed lengths; directions with different activations", "clip"),
    "RNN": Operator(rnn, "computed lengths; directions with different activations", "clip"),
}
"""Operator name -> how it is imported."""
