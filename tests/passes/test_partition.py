"""What owners of inputs compute themselves: what is chosen, that it is cheaper, and the answer."""

import io
import zipfile
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from benchmarks.partition import Case, crop_model, saved, token_model
from mpcc import api
from mpcc.errors import MpccError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.local import check_local, local_functions, prepared
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.options import CompileOptions
from mpcc.passes.partition import alone, choose, partition
from mpcc.verify_program import verify_artifact

Ranges = dict[str, tuple[float, float]]

RNG = np.random.default_rng(7)


def module(body: str):
    found = parse_module(f"module tensor {{ func @main() {{ {body} }} }}", DIALECTS)
    verify(found, DIALECTS["tensor"])
    return found


def source(name: str, shape: str, owner: str = "client", op: str = "input") -> str:
    dims = shape.replace("x", ", ")
    return (
        f'tensor.{op}() {{name = "{name}", shape = [{dims}], owner = "{owner}"}} : '
        f"tensor<{shape}xf32, {owner}>"
    )


def local_ops(text: str) -> dict[str, list[str]]:
    """The ops that are computed by each owner, without sources and outputs."""
    divided = partition(module(text)).module
    verify(divided, DIALECTS["tensor"])
    check_local(divided)
    again = parse_module(print_module(divided), DIALECTS)
    assert print_module(again) == print_module(divided)
    skipped = ("tensor.input", "tensor.weight", "tensor.output")
    functions = local_functions(divided).items()
    return {who: [op.name for op in f.ops if op.name not in skipped] for who, f in functions}


CROP = (
    "{starts = [0, 0, 2, 2], limits = [1, 1, 6, 6], strides = [1, 1, 1, 1]}"
    " : tensor<1x1x4x4xf32, client>"
)
CONV = "{strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1]}"


def test_cropping_and_pooling_come_before_sharing():
    text = f"""
        %0 = {source("x", "1x1x8x8")}
        %1 = {source("w", "1x1x3x3", "model", "weight")}
        %2 = tensor.slice(%0) {CROP}
        %3 = tensor.maxpool(%2) {{kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0]}}
            : tensor<1x1x2x2xf32, client>
        %4 = tensor.conv(%3, %1) {CONV} : tensor<1x1x2x2xf32, secret>
        tensor.output(%4) {{name = "y"}}
    """
    assert local_ops(text) == {"client": ["tensor.slice", "tensor.maxpool"]}


def test_what_makes_more_numbers_stays_with_the_parties():
    text = f"""
        %0 = {source("x", "1x1x8x8")}
        %1 = {source("w", "1x1x3x3", "model", "weight")}
        %2 = tensor.pad(%0) {{low = [0, 0, 4, 4], high = [0, 0, 4, 4]}}
            : tensor<1x1x16x16xf32, client>
        %3 = tensor.conv(%2, %1) {CONV} : tensor<1x1x16x16xf32, secret>
        tensor.output(%3) {{name = "y"}}
    """
    assert local_ops(text) == {}


def test_moving_elements_alone_is_no_reason():
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = {source("w", "4x3", "model", "weight")}
        %2 = tensor.transpose(%0) {{perm = [1, 0]}} : tensor<8x4xf32, client>
        %3 = tensor.matmul(%2, %1) : tensor<8x3xf32, secret>
        tensor.output(%3) {{name = "y"}}
    """
    assert local_ops(text) == {}


def test_scaling_by_public_numbers_saves_a_truncation_and_brings_the_shift_along():
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = {source("mean", "1x8", "public", "weight")}
        %2 = {source("scale", "1x8", "public", "weight")}
        %3 = {source("w", "8x3", "model", "weight")}
        %4 = tensor.sub(%0, %1) : tensor<4x8xf32, client>
        %5 = tensor.mul(%4, %2) : tensor<4x8xf32, client>
        %6 = tensor.matmul(%5, %3) : tensor<4x3xf32, secret>
        tensor.output(%6) {{name = "y"}}
    """
    assert local_ops(text) == {"client": ["tensor.sub", "tensor.mul"]}


@pytest.mark.parametrize("owner", ["model", "public"])
def test_weights_of_the_model_owner_never_reach_the_input_owner(owner):
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = {source("w", "8x2", owner, "weight")}
        %2 = {source("v", "2x3", "model", "weight")}
        %3 = tensor.matmul(%0, %1) : tensor<4x2xf32, {"secret" if owner == "model" else "client"}>
        %4 = tensor.matmul(%3, %2) : tensor<4x3xf32, secret>
        tensor.output(%4) {{name = "y"}}
    """
    wanted = {} if owner == "model" else {"client": ["tensor.matmul"]}
    assert local_ops(text) == wanted


def test_every_owner_prepares_its_own_part():
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = {source("z", "4x8", "model")}
        %2 = tensor.reduce_max(%0) {{axes = [1], keepdims = true}} : tensor<4x1xf32, client>
        %3 = tensor.reduce_max(%1) {{axes = [1], keepdims = true}} : tensor<4x1xf32, model>
        %4 = tensor.mul(%2, %3) : tensor<4x1xf32, secret>
        tensor.output(%4) {{name = "y"}}
    """
    assert local_ops(text) == {"client": ["tensor.reduce_max"], "model": ["tensor.reduce_max"]}
    divided = partition(module(text)).module
    data = {"x": RNG.standard_normal((4, 8)), "z": RNG.standard_normal((4, 8))}
    found = prepared(divided, {}, data)
    for changed in ("x", "z"):
        # Non-interference: what one owner hands over does not move with the other's data.
        other = prepared(divided, {}, {**data, changed: RNG.standard_normal((4, 8))})
        kept = {"x": "model.0", "z": "client.0"}[changed]
        moved = {"x": "client.0", "z": "model.0"}[changed]
        assert np.array_equal(other[kept], found[kept])
        assert not np.array_equal(other[moved], found[moved])


def test_an_input_that_parties_use_too_is_shared_beside_what_is_made_of_it():
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = {source("w", "8x3", "model", "weight")}
        %2 = tensor.reduce_max(%0) {{axes = [1], keepdims = true}} : tensor<4x1xf32, client>
        %3 = tensor.matmul(%0, %1) : tensor<4x3xf32, secret>
        %4 = tensor.mul(%3, %2) : tensor<4x3xf32, secret>
        tensor.output(%4) {{name = "y"}}
    """
    assert local_ops(text) == {"client": ["tensor.reduce_max"]}
    divided = partition(module(text)).module
    data, weights = {"x": RNG.standard_normal((4, 8))}, {"w": RNG.standard_normal((8, 3))}
    ready = prepared(divided, weights, data)
    whole = real.run(module(text), weights, data)
    assert len(ready) == 2
    assert np.allclose(real.run(divided, weights, ready)["y"], whole["y"], atol=1e-5)


def test_what_nobody_else_has_a_part_in_stays_and_is_told():
    text = f"""
        %0 = {source("x", "4x8")}
        %1 = tensor.reduce_max(%0) {{axes = [1], keepdims = true}} : tensor<4x1xf32, client>
        tensor.output(%1) {{name = "y"}}
    """
    main = module(text).main
    assert list(alone(main)) == ["y"]
    assert choose(main).local == {}


# --- whole programs ------------------------------------------------------------------------------

CASES: dict[str, tuple[Callable[..., bytes], dict[str, int], dict[str, str], Ranges]] = {
    "tokens": (token_model, {"rows": 50, "width": 8, "tokens": 6}, {"table": "public"}, {}),
    "crop": (crop_model, {"size": 24, "crop": 8}, {}, {"x": (0.0, 1.0)}),
}


def compiled(name: str, local: str) -> api.Compiled:
    make, sizes, owners, ranges = CASES[name]
    formats = FormatOptions(input_ranges=ranges)
    options = CompileOptions(owners=owners, formats=formats, local=local)
    return api.compile(make(**sizes), options=options)


def data(name: str) -> dict[str, np.ndarray]:
    if name == "tokens":
        return {"ids": RNG.integers(-50, 50, (1, 6))}
    return {"x": RNG.uniform(0, 1, (1, 3, 24, 24)).astype(np.float32)}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    """A model's name and its program with what owners compute."""
    return request.param, compiled(request.param, "auto")


def test_the_program_is_the_one_that_shares_the_prepared_tensor(case):
    name, auto = case
    make, sizes, _, _ = CASES[name]
    (port,) = auto.artifact.inputs
    formats = FormatOptions(input_ranges={port["name"]: (port["lo"], port["hi"])})
    alike = api.compile(
        make(**sizes, prepared=True), options=CompileOptions(formats=formats, local="none")
    )
    assert alike.artifact.program == auto.artifact.program
    assert alike.artifact.secure_text == auto.artifact.secure_text
    given = data(name)
    ready = prepared(auto.artifact.tensor_module, auto.artifact.public_weights, given)
    one = api.simulate(auto.artifact, auto.weights, given, rounding="floor").outputs
    two = api.simulate(alike.artifact, alike.weights, ready, rounding="floor").outputs
    assert np.array_equal(one["y"], two["y"])


@pytest.mark.parties
def test_all_engines_prepare_alike_and_answer_as_without(case):
    name, auto = case
    none, given = compiled(name, "none"), data(name)
    assert verify_artifact(auto.artifact).accepted
    wanted = api.simulate(none.artifact, none.weights, given).outputs["y"]
    sent = {}
    for engine in ("native", "party-interpreter"):
        found = api.run_local(auto.artifact, auto.weights, given, engine=engine)
        assert np.allclose(found.outputs["y"], wanted, atol=2 * 2.0**-7)
        sent[engine] = found.stats["bytes_sent"]
    assert sent["native"] == sent["party-interpreter"]
    assert sent["native"] == auto.cost.cost.to_json([])["bytes_sent"]


def test_a_file_that_was_written_and_read_prepares_alike(case):
    name, auto = case
    data_, again = data(name), type(auto.artifact).from_bytes(auto.artifact.to_bytes())
    one, two = (prepared(a.tensor_module, a.public_weights, data_) for a in (auto.artifact, again))
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in two.items()}


def test_the_file_holds_public_weights_that_owners_need_and_no_others(case):
    name, auto = case
    found = {array.shape: array for array in auto.artifact.public_weights.values()}
    if name == "crop":
        assert found == {}
        return
    model = onnx.load_from_string(CASES["tokens"][0](**CASES["tokens"][1]))
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in model.graph.initializer}
    assert list(found) == [(50, 8)]
    assert np.array_equal(found[50, 8], arrays["table"])
    data_ = auto.artifact.to_bytes()
    with zipfile.ZipFile(io.BytesIO(data_)) as file:
        text = b"".join(file.read(entry) for entry in file.namelist())
    assert arrays["table"].tobytes() in text
    assert arrays["a"].tobytes() not in text


@pytest.mark.parametrize("name", list(CASES))
def test_half_of_the_bytes_are_saved_at_least(name):
    make, sizes, owners, ranges = CASES[name]
    assert saved(Case(name, make(**sizes), owners, ranges)).ratio >= 2


def test_owners_refuse_what_the_program_does_not_take(case):
    name, auto = case
    bad = {"ids": np.full((1, 6), 50)} if name == "tokens" else {"x": np.full((1, 3, 24, 24), 2.0)}
    with pytest.raises(MpccError) as caught:
        api.simulate(auto.artifact, auto.weights, bad)
    assert caught.value.code == "E-input-range"
    if name == "tokens":
        with pytest.raises(MpccError, match="whole numbers"):
            api.simulate(auto.artifact, auto.weights, {"ids": np.full((1, 6), 0.5)})


def test_calibration_data_are_prepared_too():
    make, sizes, _, _ = CASES["crop"]
    samples = {"x": RNG.uniform(0, 1, (8, 3, 24, 24)).astype(np.float32)}
    auto = api.compile(make(**sizes), calibration=samples)
    (port,) = auto.artifact.inputs
    assert (port["lo"], port["hi"]) == (-2.0, 2.0)
    assert "any numbers" in " ".join(auto.notes)
    with pytest.raises(MpccError) as caught:
        api.simulate(auto.artifact, auto.weights, {"x": samples["x"][:1] + 2})
    assert caught.value.code == "E-input-range"
    assert verify_artifact(auto.artifact).accepted


def test_programs_of_several_batch_sizes_are_divided_alike():
    make, sizes, _, _ = CASES["crop"]
    model = onnx.load_from_string(make(**sizes))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    made = api.compile(model.SerializeToString(), batch=[1, 2])
    given = RNG.uniform(0, 1, (2, 3, 24, 24)).astype(np.float32)
    found = api.simulate(made.programs[2].artifact, made.weights, {"x": given}, rounding="floor")
    one = api.simulate(made.programs[1].artifact, made.weights, {"x": given[:1]}, rounding="floor")
    assert np.array_equal(found.outputs["y"][:1], one.outputs["y"])
    assert [c.artifact.inputs[0]["shape"] for c in made.programs.values()] == [
        [1, 3, 4, 4],
        [2, 3, 4, 4],
    ]
