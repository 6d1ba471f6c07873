"""Inputs of integers and truth values: rows of a table that stay secret, masks, pixels."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc.errors import MpccError
from mpcc.ir.encodings import encoded, one_hot
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

ROWS = 7
RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((ROWS, 3)).astype(np.float32)
IDS = np.array([[0, ROWS - 1, -1, -ROWS]])


def model(*more, outputs=("y",), inputs=None, constants=None):
    """Rows of the table, and whatever else is made of the inputs."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"]), *more]
    kinds = inputs or {"ids": (TensorProto.INT64, IDS.shape)}
    weights = {"table": TABLE, **(constants or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in kinds.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    return made.SerializeToString()


MASK = [
    helper.make_node("Equal", ["ids", "pad"], ["bits"]),
    helper.make_node("Cast", ["bits"], ["z"], to=TensorProto.FLOAT),
]


def check(data, inputs, program, tolerance=2.0**-7):
    """The simulator and both engines are close to onnxruntime, and equal among themselves."""
    session = onnxruntime.InferenceSession(data)
    names = [o.name for o in session.get_outputs()]
    want = dict(zip(names, session.run(names, inputs), strict=True))
    assert verify_artifact(program.artifact).accepted
    run = mpcc.simulate(program.artifact, program.weights, inputs)
    assert not run.overflows
    for engine in ("party-interpreter", "native"):
        outputs = mpcc.run_local(
            program.artifact, program.weights, inputs, engine=engine, require_verified=False
        ).outputs
        for name, value in want.items():
            assert outputs[name].shape == value.shape
            assert np.abs(outputs[name] - value).max() <= tolerance
            assert np.abs(run.outputs[name] - value).max() <= tolerance


@pytest.mark.parties
def test_rows_that_the_client_encodes():
    data = model()
    program = mpcc.compile(data)
    (port,) = program.artifact.inputs
    assert port["shape"] == [1, 4, ROWS]
    assert (port["rows"], port["lo"], port["hi"]) == (ROWS, 0.0, 1.0)
    # Nothing is compared: rounds are those of one product and its truncation.
    assert not list(program.artifact.secure_module.main.walk("secure.negative"))
    check(data, {"ids": IDS}, program)


@pytest.mark.parties
def test_rows_of_numbers_that_are_compared():
    """Another use of the numbers: they are shared as such, and compared with all places."""
    data = model(*MASK, outputs=("y", "z"), constants={"pad": np.array(-1)})
    program = mpcc.compile(data)
    (port,) = program.artifact.inputs
    assert port["shape"] == [1, 4]
    # The table says which numbers there can be.
    assert (port["lo"], port["hi"]) == (-ROWS, ROWS - 1)
    check(data, {"ids": IDS}, program)


@pytest.mark.parametrize("more", [(), MASK], ids=["encoded", "compared"])
def test_nothing_disclosed(more):
    """Formats are made again by the leak checker, from the architecture alone."""
    outputs = ("y", "z") if more else ("y",)
    data = model(*more, outputs=outputs, constants={"pad": np.array(2)} if more else None)
    options = CompileOptions(formats=FormatOptions(disclose="none"))
    program = mpcc.compile(data, options=options)
    assert verify_artifact(program.artifact).accepted
    run = mpcc.simulate(program.artifact, program.weights, {"ids": IDS})
    assert np.abs(run.outputs["y"] - TABLE[IDS]).max() < 2.0**-7


def test_numbers_without_a_row_are_refused():
    program = mpcc.compile(model())
    for wrong in (IDS + 1, IDS - 1, IDS + 0.5):
        with pytest.raises(MpccError, match=r"whole numbers from -7 to 6") as caught:
            mpcc.simulate(program.artifact, program.weights, {"ids": wrong})
        assert caught.value.diagnostics[0].where == "input ids"
    with pytest.raises(MpccError, match="leave"):
        mpcc.compile(model(), calibration={"ids": np.full((1, *IDS.shape), 99)})


def test_calibration_takes_numbers():
    program = mpcc.compile(model(), calibration={"ids": np.stack([IDS, IDS % ROWS])})
    run = mpcc.simulate(program.artifact, program.weights, {"ids": IDS})
    assert np.abs(run.outputs["y"] - TABLE[IDS]).max() < 2.0**-7


def test_one_hot_rows():
    rows = one_hot(np.array([[0, -1]]), 3)
    np.testing.assert_array_equal(rows, [[[1, 0, 0], [0, 0, 1]]])
    assert encoded(rows, {"shape": [1, 2, 3], "rows": 3}) is rows
    np.testing.assert_array_equal(
        encoded(np.array([[0, 2]]), {"shape": [1, 2, 3], "rows": 3}), rows
    )
    with pytest.raises(ValueError, match="whole ones from -3 to 2"):
        one_hot(np.array([3]), 3)


def test_masks_and_pixels():
    """Truth values are within 0 and 1, bytes within 0 and 255, whatever else is said."""
    nodes = [
        helper.make_node("Not", ["mask"], ["far"]),
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["s"]),
        helper.make_node("Where", ["far", "zero", "s"], ["z"]),
    ]
    inputs = {
        "ids": (TensorProto.INT64, IDS.shape),
        "mask": (TensorProto.BOOL, (2, 3)),
        "pixels": (TensorProto.UINT8, (2, 3)),
    }
    constants = {"scale": np.float32(1 / 255), "zero": np.float32(0)}
    data = model(*nodes, outputs=("y", "z"), inputs=inputs, constants=constants)
    program = mpcc.compile(data)
    ranges = {p["name"]: (p["lo"], p["hi"]) for p in program.artifact.inputs}
    assert ranges == {"ids": (0.0, 1.0), "mask": (0.0, 1.0), "pixels": (0.0, 255.0)}
    pixels = RNG.integers(0, 256, (2, 3))
    mask = np.array([[True, False, True], [False, True, True]])
    given = {"ids": IDS, "mask": mask, "pixels": pixels}
    run = mpcc.simulate(program.artifact, program.weights, given)
    assert np.abs(run.outputs["z"] - np.where(mask, pixels / 255, 0)).max() < 2.0**-7
    with pytest.raises(MpccError, match="outside"):
        mpcc.simulate(program.artifact, program.weights, {**given, "pixels": pixels + 256})
