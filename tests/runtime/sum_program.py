"""A small program for tests of engines: an input and a weight are added among the parties."""

import numpy as np

from mpcc.artifact import Artifact
from mpcc.emit.graphdef import emit
from mpcc.ir.core import Module
from mpcc.ir.ops.party import DIALECT

NAMES = ("P0", "P1", "P2", "owner")
SHAPE = (40,)


def program(rounds=2, label="step"):
    """Adds a weight to the input, passes the sum around under masks, opens it to the client."""
    module = Module("party")

    def op(kind, *operands, **attrs):
        result = module.main.append(DIALECT.operations[f"party.{kind}"], operands, attrs)
        return result.results[0] if result.results else None

    def draw(place, key, stream, phase="online"):
        return op("draw_ring", key=key, stream=stream, phase=phase, place=place, shape=SHAPE)

    key = "P0+P1+model"
    w = op("weight", name="w", shape=SHAPE, place="model")
    w = op("sub", w, draw("model", key, 0, "setup"))
    w = op("transfer", w, to="P2", step="weight/share")
    mask = draw("P0", key, 0, "setup")
    x = op("encode", op("input", name="x", shape=SHAPE, place="client"), frac=8, lo=-8.0, hi=8.0)
    key = "P0+P2+client"
    x = op("sub", x, draw("client", key, 0))
    x = op("transfer", x, to="P1", step="input/share")
    x = op("transfer", x, to="P0", step="input/pass")
    x = op("add", op("add", x, draw("P0", key, 0)), mask)
    for i in range(rounds):
        x = op("add", x, draw("P0", "P0+P2", i))
        x = op("transfer", x, to="P1", step=f"{label}_{i}/there")
        x = op("transfer", x, to="P2", step=f"{label}_{i}/on")
        x = op("sub", x, draw("P2", "P0+P2", i))
        x = op("transfer", x, to="P0", step=f"{label}_{i}/back")
    x = op("transfer", x, to="P2", step="sum/there")
    x = op("transfer", op("add", x, w), to="client", step="sum/open")
    op("output", op("decode", x, frac=8), name="y")
    return module


def artifact(module):
    empty = {"tensor": Module("tensor"), "secure": Module("secure")}
    return Artifact.create(
        tensor_module=empty["tensor"],
        secure_module=empty["secure"],
        program=emit(module),
        protocol="test",
        phi={},
        inputs=[{"name": "x", "shape": list(SHAPE), "owner": "client", "lo": -8.0, "hi": 8.0}],
        outputs=[{"name": "y", "shape": list(SHAPE), "owner": "client"}],
        cost={},
        version="0",
    )


def values():
    x = np.linspace(-8, 8, SHAPE[0], dtype=np.float32)
    w = np.arange(SHAPE[0], dtype=np.int64) * -256
    return {"w": w.view(np.uint64)}, {"x": x}, np.round(x * 256) / 256 + w / 256
