"""The guide of docs/frontends.md, followed: an importer of another format."""

from typing import Any

import numpy as np
import onnx
import pytest

from mpcc.errors import MpccError
from mpcc.frontend.importer import (
    Builder,
    Constant,
    Imported,
    Owners,
    Port,
    Problems,
    Unsupported,
    type_of,
)
from mpcc.frontend.onnx.loader import OPERATORS
from mpcc.frontend.onnx.node import Node
from mpcc.ir.define import InferenceError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from mpcc.ir.verify import verify

KNOWN = {"dense": "MatMul", "plus": "Add", "ramp": "Relu", "squash": "Sigmoid"}


def import_lines(source, weights_by_name, shape, owners=None, weights="secret"):
    """A model of lines `result = operator operand ...`; its input is `in`, its output `out`."""
    problems, roles, build = Problems(), Owners(owners or {}, weights), Builder()
    build.roles = roles
    port = Port("in", shape, "f32", roles.input("in"))
    attrs = {"name": "in", "shape": shape, "owner": port.owner}
    env: dict[str, Any] = {"in": build.module.main.append(tensor.Input, (), attrs).result}
    env |= {n: Constant(a, n, roles.weight(n)) for n, a in weights_by_name.items()}
    build.reserve(list(weights_by_name))
    for line in source.splitlines():
        result, _, operator, *names = line.split()
        operands = [env.get(name) for name in names]
        env[result] = None
        if operator not in KNOWN:
            problems.node("E-import-unsupported", f"{operator}: it is not known", result)
            continue
        if None in operands:
            continue
        proto = onnx.helper.make_node(KNOWN[operator], names, [result], name=result)
        build.node = result
        try:
            node = Node(build, proto, 18, operands, [True], {})
            env[result] = OPERATORS[KNOWN[operator]].run(node)
        except (InferenceError, Unsupported) as error:
            problems.node("E-import-shape", f"{operator}: {error}", result)
    roles.check(problems)
    problems.raise_if_any()
    value = build.value(env["out"])
    build.module.main.append(tensor.Output, [value], {"name": "out", "owner": roles.output("out")})
    build.module.main.remove_dead()
    out = Port("out", type_of(value).shape, "f32", roles.output("out"))
    return Imported(build.module, build.constants, (port,), (out,), build.disclosed)


WEIGHTS = {
    "a": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
    "b": np.array([0.5, -1.0, 2.0], np.float32),
}
LINES = "p = dense in a\nq = plus p b\nr = ramp q\nout = squash r"


def test_a_model_of_another_format():
    imported = import_lines(LINES, WEIGHTS, (2, 4), {"b": "public"})
    verify(imported.module, DIALECTS["tensor"])
    owners = {o.attrs["name"]: o.attrs["owner"] for o in imported.module.main.walk("tensor.weight")}
    assert owners == {"a": "model", "b": "public"}
    x = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    have = real.run(imported.module, imported.constants, {"in": x})["out"]
    want = 1 / (1 + np.exp(-np.maximum(x @ WEIGHTS["a"] + WEIGHTS["b"], 0)))
    np.testing.assert_allclose(have, want, atol=1e-6)


def test_its_problems_are_reported_at_once():
    lines = "p = bend in a\nq = dense in b\nr = plus p b\nout = twist q"
    with pytest.raises(MpccError) as caught:
        import_lines(lines, WEIGHTS, (2, 4), {"c": "public"})
    text = str(caught.value)
    assert "bend: it is not known" in text
    assert "twist: it is not known" in text
    assert "dense: " in text
    assert "no input, output or float constant c" in text
    assert "plus" not in text
