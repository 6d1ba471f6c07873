"""What owners of outputs compute after the reveal: only where asked for, told, and bounded."""

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.ir.after import after_functions
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.text import parse_module, print_module
from mpcc.options import CompileOptions
from mpcc.runtime.owners import finished_outputs
from mpcc.verify_program import declared_policy, verify_artifact
from tests.verify.artifact_mutations import entries_of, packed

W = np.random.default_rng(3).uniform(-1, 1, (4, 5)).astype(np.float32)
X = np.random.default_rng(4).uniform(-1, 1, (2, 4)).astype(np.float32)


def model(*last: str) -> bytes:
    """Scores x W, then operators, of which the last one gives y."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    for i, name in enumerate(last):
        node = helper.make_node(name, [f"v{i}"], ["y" if i == len(last) - 1 else f"v{i + 1}"])
        if "oftmax" in name or name == "ArgMax":
            node.attribute.append(helper.make_attribute("axis", 1))
        nodes.append(node)
    kind, shape = (
        (TensorProto.INT64, [2, 1]) if last[-1] == "ArgMax" else (TensorProto.FLOAT, [2, 5])
    )
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", kind, shape)],
        [numpy_helper.from_array(W, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return bytes(made.SerializeToString())


def compiled(*last: str, reveal: bool = True) -> api.Compiled:
    return api.compile(model(*last), options=CompileOptions(reveal_logits=reveal))


@pytest.fixture(scope="module")
def softmax() -> api.Compiled:
    return compiled("Softmax")


def softmax_of(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_nothing_is_computed_after_a_reveal_unless_asked_for():
    for last in ("Softmax", "Sigmoid"):
        plain = compiled(last, reveal=False).artifact
        assert after_functions(plain.tensor_module) == {}
        assert "scores that are opened" in (found := verify_artifact(plain).disclosed)
        assert found["scores that are opened"] == {}


def test_an_argmax_never_moves():
    asked, plain = compiled("ArgMax"), compiled("ArgMax", reveal=False)
    assert asked.artifact.program == plain.artifact.program
    hidden = compiled("Softmax", "ArgMax")
    assert after_functions(hidden.artifact.tensor_module) == {}


@pytest.mark.parties
def test_the_answer_is_the_same_and_cheaper(softmax):
    plain = compiled("Softmax", reveal=False)
    wanted = softmax_of(X.astype(np.float64) @ W)
    simulated = api.simulate(softmax.artifact, softmax.weights, {"x": X}).outputs["y"]
    assert np.abs(simulated - wanted).max() < 2.0**-7
    for engine in ("native", "party-interpreter"):
        run = api.run_local(softmax.artifact, softmax.weights, {"x": X}, engine=engine)
        assert np.abs(run.outputs["y"] - wanted).max() < 2.0**-7
        assert np.allclose(run.outputs["y"].sum(axis=1), 1, atol=1e-6)
    sent = [c.cost.cost.to_json([])["bytes_sent"] for c in (softmax, plain)]
    assert 2 * sum(sent[0].values()) < sum(sent[1].values())


@pytest.mark.parametrize("limit", [{"max_memory": 1}, {"max_work": 1}])
def test_what_comes_after_a_reveal_keeps_to_the_users_limits(softmax, limit):
    scores = {"y": (X @ W).astype(np.float32)}
    wanted = softmax_of(scores["y"].astype(np.float64))
    np.testing.assert_allclose(finished_outputs(softmax.artifact, scores)["y"], wanted, atol=1e-6)
    with pytest.raises(MpccError) as caught:
        finished_outputs(softmax.artifact, scores, **limit)
    assert caught.value.code.startswith("E-limit-")


@pytest.mark.parametrize("last", [("LogSoftmax",), ("Sigmoid",), ("Sigmoid", "Softmax")])
def test_every_map_and_chains_of_them(last):
    made = compiled(*last)
    scores = X.astype(np.float64) @ W
    sigmoid = 1 / (1 + np.exp(-scores))
    wanted = {
        ("LogSoftmax",): np.log(softmax_of(scores)),
        ("Sigmoid",): sigmoid,
        ("Sigmoid", "Softmax"): softmax_of(sigmoid),
    }[last]
    found = api.simulate(made.artifact, made.weights, {"x": X}).outputs["y"]
    assert np.abs(found - wanted).max() < 2.0**-6
    assert {op.name for op in made.artifact.tensor_module.main.ops} == {
        "tensor.input",
        "tensor.weight",
        "tensor.matmul",
        "tensor.output",
    }


def test_the_checker_tells_it_and_a_users_policy_must_allow_it(softmax, tmp_path):
    report = verify_artifact(softmax.artifact)
    assert report.accepted
    assert report.disclosed["scores that are opened"] == {
        "y": "client learns what it applies softmax to"
    }
    declared = declared_policy(softmax.artifact.secure_module)
    strict = verify_artifact(softmax.artifact, declared)
    assert {p.code for p in strict.all_problems} == {"E-leak-reveal"}
    allowed = dataclasses.replace(declared, logits=frozenset({"y"}))
    assert verify_artifact(softmax.artifact, allowed).accepted
    path = tmp_path / "policy.toml"
    for text, accepted in (("", False), ('logits = ["y"]\n', True)):
        path.write_text(text + '[outputs]\ny = "client"\n')
        assert mpcc.verify(softmax.artifact, path).accepted == accepted
    assert mpcc.verify(softmax.artifact).accepted


STEP = "%1 = tensor.softmax(%0) {axis = 1} : tensor<2x5xf32, client>"
READ = '%0 = tensor.input() {name = "y", shape = [2, 5]} : tensor<2x5xf32, client>'
GIVE = 'tensor.output(%1) {name = "y"}'

LIES = {
    "another map": (STEP, STEP.replace("softmax", "relu").replace(" {axis = 1}", "")),
    "another output": (READ, READ.replace('"y"', '"x"')),
    "another name": (GIVE, GIVE.replace('"y"', '"z"')),
    "another owner": (GIVE, GIVE.replace("}", ', owner = "model"}')),
    "a weight": (STEP, '%9 = tensor.weight() {name = "w0", shape = [4, 5]} : '
                 f"tensor<4x5xf32, model>\n{STEP}"),
    "no place": ("func @after.client", "func @after.P1"),
    "a long chain": (STEP, "\n".join(
        [STEP.replace("%1", "%10")]
        + [f"%{i + 1} = tensor.sigmoid(%{i}) : tensor<2x5xf32, client>" for i in range(10, 18)]
        + ["%1 = tensor.sigmoid(%18) : tensor<2x5xf32, client>"]
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LIES))
def test_lies_are_refused(softmax, name):
    entries = entries_of(softmax.artifact)
    old, new = LIES[name]
    head, mark, tail = entries["tensor.mpcc"].decode().partition("  func @after.")
    tail = mark + tail
    assert old in tail
    text = print_module(parse_module(head + tail.replace(old, new), DIALECTS))
    lie = Artifact.from_bytes(packed({**entries, "tensor.mpcc": text.encode()}))
    assert "E-local-program" in {p.code for p in verify_artifact(lie).all_problems}
    with pytest.raises(MpccError) as caught:
        api.simulate(lie, softmax.weights, {"x": X})
    assert caught.value.code == "E-local-program"
