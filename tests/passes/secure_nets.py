"""Small tensor modules with seeded weights, for the tests of formats and lowering."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.verify import verify


@dataclass
class Net:
    """A tensor module under construction."""

    rng: np.random.Generator
    module: Module = field(default_factory=lambda: Module("tensor"))
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def op(self, definition, operands=(), loc="", **attrs) -> Any:
        results = self.module.main.append(definition, operands, attrs, loc).results
        return results[0] if results else None

    def input(self, name, *shape) -> Any:
        self.shapes[name] = shape
        return self.op(tensor.Input, name=name, shape=shape)

    def weight(self, array) -> Any:
        name = f"w{len(self.constants)}"
        self.constants[name] = np.asarray(array, np.float32)
        return self.op(tensor.Weight, name=name, shape=np.shape(array))

    def dense(self, x, outputs, gain=1.0, loc="dense") -> Any:
        rows = x.type.shape[1]
        w = self.weight(self.rng.standard_normal((rows, outputs)) * gain / np.sqrt(rows))
        return self.op(tensor.MatMul, [x, w], loc)

    def conv(self, x, channels, kernel=3, groups=1, pads=(1, 1, 1, 1), strides=(1, 1), loc="conv"):
        fan = x.type.shape[1] // groups * kernel * kernel
        shape = (channels, x.type.shape[1] // groups, kernel, kernel)
        w = self.weight(self.rng.standard_normal(shape) * np.sqrt(2 / fan))
        b = self.weight(self.rng.uniform(-0.5, 0.5, channels))
        geometry = {"strides": strides, "pads": pads, "dilations": (1, 1), "groups": groups}
        return self.op(tensor.Conv, [x, w, b], loc, **geometry)

    def relu(self, x) -> Any:
        return self.op(tensor.Relu, [x], "act")

    def output(self, x, name="y") -> Module:
        self.op(tensor.Output, [x], name=name)
        verify(self.module, tensor.DIALECT)
        return self.module

    def sample(self, scale=1.0, seed=0):
        rng = np.random.default_rng((7, seed))
        return {n: rng.uniform(-scale, scale, s).astype(np.float32) for n, s in self.shapes.items()}


def random_net(seed: int) -> Net:
    """Convolutions, sums, pools and shape ops in a random order, then a dense layer."""
    rng = np.random.default_rng(seed)
    net = Net(rng)
    x = net.input("x", 1, 2, 6, 6)
    live = [x]
    for step in range(5):
        x = live[-1]
        kind = rng.choice(["conv", "depthwise", "relu", "skip", "pool", "pad", "shift", "turn"])
        channels = x.type.shape[1]
        if kind == "conv":
            x = net.conv(x, int(rng.integers(1, 4)), loc=f"conv{step}")
        elif kind == "depthwise":
            x = net.conv(x, channels, groups=channels, loc=f"conv{step}")
        elif kind == "relu":
            x = net.relu(x)
        elif kind == "skip":
            same = [v for v in live if v.type.shape == x.type.shape]
            other = same[int(rng.integers(len(same)))]
            x = net.op((tensor.Add, tensor.Sub)[rng.integers(2)], [x, other], "skip")
        elif kind == "pool" and min(x.type.shape[2:]) > 2:
            size = {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
            x = net.op(tensor.MaxPool, [x], "pool", **size)
        elif kind == "pad":
            x = net.op(tensor.Pad, [x], "edge", low=(0, 0, 1, 0), high=(0, 1, 0, 0), value=0.3)
        elif kind == "shift":
            w = net.weight(rng.uniform(-1, 1, (channels, 1, 1)))
            x = net.op(tensor.Add, [x, w], "shift")
        else:
            x = net.op(tensor.Transpose, [x], perm=(0, 1, 3, 2))
        live.append(x)
    if rng.integers(2):
        net.op(tensor.Output, [live[-2]], name="inner")
    flat = net.op(tensor.Reshape, [x], shape=(1, int(np.prod(x.type.shape))))
    net.output(net.dense(flat, 3))
    return net
