"""Recurrent layers: directions, states, lengths, activations."""

from typing import Any

import numpy as np

from tests.frontend.rows.table import FLOAT, Row, weights

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
BATCH, WIDTH, HIDDEN = 2, 3, 2
LENGTHS = np.array([3, 1], np.int32)


def layer(
    op: str,
    name: str,
    *more: str,
    direction: str = "forward",
    opsets: tuple[int, ...] = (14,),
    initial: tuple[str, ...] = (),
    reference: bool = False,
    **attrs: Any,
) -> Row:
    """A layer; ``more`` of: bias, lengths, peepholes, weights (initial states are weights)."""
    directions = 2 if direction == "bidirectional" else 1
    size, batchwise = GATES[op] * HIDDEN, bool(attrs.get("layout", 0))
    # The second step takes up what the first leaves; after its end a sequence waits twice. Of two
    # steps in both directions onnxruntime's GRU gives other states than its definition.
    steps = int(LENGTHS.max()) if "lengths" in more or directions == 2 else 2
    state = (BATCH, directions, HIDDEN) if batchwise else (directions, BATCH, HIDDEN)
    inputs: dict[str, tuple[int, ...]] = {
        "x": (BATCH, steps, WIDTH) if batchwise else (steps, BATCH, WIDTH)
    }
    constants: dict[str, object] = {
        "w": weights(directions, size, WIDTH),
        "r": weights(directions, size, HIDDEN),
    }
    operands = ["x", "w", "r", "", "", "", "", ""]
    if "bias" in more:
        constants["b"], operands[3] = weights(directions, 2 * size), "b"
    if "lengths" in more:
        constants["n"], operands[4] = LENGTHS, "n"
    for index, what in enumerate(initial, start=5):
        operands[index] = what
        if "weights" in more:
            constants[what] = weights(*state)
        else:
            inputs[what] = state
    if "peepholes" in more:
        constants["p"], operands[7] = weights(directions, 3 * HIDDEN), "p"
    while not operands[-1]:
        operands.pop()
    if direction != "forward":
        attrs["direction"] = direction
    return Row(
        f"{op} {name}",
        op,
        inputs,
        constants,
        {"hidden_size": HIDDEN, **attrs},
        opsets,
        operands=tuple(operands),
        outputs=(FLOAT,) * (3 if op == "LSTM" else 2),
        reference=reference,
        # ONNX's reference warns of large numbers.
        whole=reference,
    )


STATES = {"RNN": ("h",), "GRU": ("h",), "LSTM": ("h", "c")}
OTHERS = {
    "RNN": ["Relu"],
    "GRU": ["HardSigmoid", "LeakyRelu"],
    "LSTM": ["HardSigmoid", "Tanh", "LeakyRelu"],
}

ROWS = [
    *(
        row
        for op in GATES
        for row in (
            layer(op, "plain", opsets=(7, 14)),
            layer(op, "bias", "bias"),
            layer(op, "state", "bias", initial=STATES[op]),
            layer(op, "state of weights", "bias", "weights", initial=STATES[op]),
            layer(op, "reverse", "bias", direction="reverse", opsets=(7, 14)),
            layer(op, "both", "bias", direction="bidirectional", initial=STATES[op]),
            layer(op, "lengths", "bias", "lengths"),
            layer(op, "lengths, both", "bias", "lengths", direction="bidirectional",
                  initial=STATES[op]),
            layer(op, "clip", "bias", initial=STATES[op], clip=0.5),
            layer(op, "activations", "bias", initial=STATES[op], activations=OTHERS[op]),
            layer(op, "activations, both", "bias", direction="bidirectional",
                  activations=OTHERS[op] * 2),
            layer(op, "batch first", "bias", layout=1, reference=True),
        )
    ),
    layer("GRU", "reset after", "bias", initial=("h",), linear_before_reset=1),
    layer("GRU", "reset after, no state", "bias", linear_before_reset=1),
    layer("GRU", "reset after, no bias", initial=("h",), linear_before_reset=1),
    layer("GRU", "reset after, both", "bias", direction="bidirectional", linear_before_reset=1),
    layer("RNN", "parameters", initial=("h",), activations=["ScaledTanh"],
          activation_alpha=[1.5], activation_beta=[0.5]),
    layer("LSTM", "parameters", initial=("h", "c"),
          activations=["Affine", "ScaledTanh", "Tanh"],
          activation_alpha=[0.5, 1.5], activation_beta=[0.25, 0.5]),
    layer("RNN", "thresholded", initial=("h",), activations=["ThresholdedRelu"],
          activation_alpha=[0.3]),
    layer("GRU", "parameters", initial=("h",), activations=["HardSigmoid", "LeakyRelu"],
          activation_alpha=[0.3, 0.1], activation_beta=[0.4]),
    layer("LSTM", "peepholes", "bias", "peepholes", opsets=(7, 14)),
    layer("LSTM", "peepholes, state", "bias", "peepholes", initial=("h", "c")),
    layer("LSTM", "peepholes, both", "bias", "peepholes", direction="bidirectional",
          initial=("h", "c")),
    layer("LSTM", "coupled gates", "bias", initial=("h", "c"), input_forget=1),
    layer("LSTM", "coupled gates, peepholes", "bias", "peepholes", initial=("h", "c"),
          input_forget=1),
]  # fmt: skip
