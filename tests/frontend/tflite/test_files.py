"""Files of TensorFlow Lite as bytes: the format's numbers, damaged files, and refusals."""

import re

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.frontend import format_of, import_model
from mpcc.frontend.tflite import schema as ours
from mpcc.frontend.tflite.flat import MalformedError, root
from mpcc.frontend.tflite.loader import import_tflite, translated
from mpcc.frontend.tflite.support import OPTIONS
from mpcc.ir.interp import real
from tests.frontend.tflite.checks import converted, made

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]

F = np.float32


def refused(call, *arguments, **options) -> MpccError:
    with pytest.raises(MpccError) as caught:
        call(*arguments, **options)
    return caught.value


def imported(data, path, **options):
    path.write_bytes(data)
    return import_model(path, **options)


def chain(schema, *operators, shape=(2, 3), kind="float32"):
    """A file of operators of one operand and no options, one behind the other."""
    names = ["x", *(f"v{i}" for i in range(len(operators) - 1)), "y"]
    tensors = [(name, shape, kind) for name in names]
    nodes = [(op, [i], [i + 1], None) for i, op in enumerate(operators)]
    return made(schema, tensors, nodes, [0], [len(operators)])


# --- the format's numbers ------------------------------------------------------------------------


def test_numbers_of_operators_and_types(schema):
    theirs = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}
    assert [theirs[i] for i in range(len(ours.OPERATORS))] == list(ours.OPERATORS)
    rest = [theirs[i] for i in range(len(ours.OPERATORS), len(theirs))]
    # None of these was ever written by a converter of float models.
    assert {n for n in rest if not n.startswith("STABLEHLO_")} <= {"DILATE", "REDUCE_WINDOW"}
    types = {n: k.lower() for k, n in vars(schema.TensorType).items() if isinstance(n, int)}
    assert types == dict(ours.KINDS)


_NAMED = {
    "activation": "fusedActivationFunction",
    "axes": "squeezeDims",
    "block": "blockSize",
    "diagonal": "diagonalRecurrentTensors",
    "projection_clip": "projClip",
    "shape": "newShape",
}
"""Options that TensorFlow calls otherwise, apart from endings."""


def theirs(options, name):
    """TensorFlow's name of an option."""
    plain = re.sub("_(.)", lambda m: m[1].upper(), _NAMED.get(name, name))
    for each in (plain, f"{plain}Mask", f"{plain}Factor", f"{plain}idth", f"{plain}eight"):
        if hasattr(options, each):
            return each
    return (
        {"keepDims": "keepNumDims", "count": "numSplits"}[plain]
        if plain != "count"
        else ("num" if hasattr(options, "num") else "numSplits")
    )


@pytest.mark.parametrize("operator", OPTIONS)
def test_options_are_where_the_format_has_them(schema, operator):
    import flatbuffers

    known = OPTIONS[operator]
    kinds = {n: k for k, n in vars(schema.BuiltinOptions).items() if isinstance(n, int)}
    for name, field in known.fields.items():
        options = getattr(schema, f"{kinds[known.form]}T")()
        attribute = theirs(options, name)
        if name in ("axes", "shape"):
            setattr(options, attribute, [3, 5])
        else:
            assert getattr(options, attribute) == field.default
            setattr(options, attribute, {"?": True, "f": 2.5}.get(field.kind, 3))
        builder = flatbuffers.Builder(64)
        builder.Finish(options.Pack(builder), b"TFL3")
        table = root(bytes(builder.Output()), b"TFL3")
        if name in ("axes", "shape"):
            assert table.integers(field.slot) == (3, 5)
        elif field.kind == "f":
            assert table.real(field.slot) == 2.5
        else:
            assert table.integer(field.slot, field.kind) == (1 if field.kind == "?" else 3)


# --- operators that the converter does not write -------------------------------------------------


def test_operators_that_are_written_by_hand(schema, tmp_path):
    x = np.array([[-1.0, 0.25, 2.0], [0.5, 1.5, -0.0]], F)
    file = imported(chain(schema, "RELU_0_TO_1"), tmp_path / "clip.tflite")
    assert np.array_equal(real.run(file.module, file.constants, {"x": x})["y"], x.clip(0, 1))

    tensors = [("x", (2, 3), "float32"), ("r", (), "int32"), ("f", (), "float32")]
    tensors.append(("y", (2, 3), "float32"))
    nodes = [("RANK", [0], [1], None), ("CAST", [1], [2], None), ("MUL", [0, 2], [3], None)]
    file = imported(made(schema, tensors, nodes, [0], [3]), tmp_path / "rank.tflite")
    assert np.array_equal(real.run(file.module, file.constants, {"x": x})["y"], 2 * x)

    tensors = [("x", (2, 3), "float32"), ("y", (2, 3), "float32"), ("z", (2, 3), "float32")]
    path = tmp_path / "two.tflite"
    with pytest.raises(MpccError, match="RELU has 1 outputs, not 2"):
        imported(made(schema, tensors, [("RELU", [0], [1, 2], None)], [0], [1, 2]), path)

    table = np.arange(12, dtype=F).reshape(4, 3)
    given = [("i", (2,), "int32"), ("table", (4, 3), table), ("y", (2, 3), "float32")]
    nodes = [("EMBEDDING_LOOKUP", [0, 1], [2], None)]
    file = imported(made(schema, given, nodes, [0], [2]), tmp_path / "table.tflite")
    found = real.run(file.module, file.constants, {"i": np.array([3, 1])})["y"]
    assert np.array_equal(found, table[[3, 1]])
    assert list(file.constants) == ["table"]


# --- damaged files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tf):
    """A convolution, a pool and a dense layer."""
    kernel = np.ones((2, 2, 1, 2), F)

    def run(x):
        y = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "VALID")
        return {"y": tf.matmul(tf.reshape(y, (1, 8)), np.ones((8, 3), F))}

    return converted(tf, (run, {"x": (1, 4, 4, 1, "float32")}))


def test_a_file_that_is_cut_off(small, tmp_path):
    path = tmp_path / "cut.tflite"
    codes = set()
    for length in range(8, len(small) - 1, 7):
        path.write_bytes(small[:length])
        try:
            # What is missing may be of no use, such as the file's own description.
            import_tflite(path)
        except MpccError as error:
            codes.add(error.code)
    assert codes == {"E-model-invalid"}
    path.write_bytes(small[: len(small) // 2])
    assert "no TensorFlow Lite model that can be read" in str(refused(import_model, path))


def test_a_file_with_wrong_bytes(small):
    """Whatever the bytes are: a model, or an error of ours."""
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(1500):
        data = bytearray(small)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.integers(8, len(data) if rng.random() < 0.5 else 200)
            data[at] = rng.choice((0, 1, 4, 127, 128, 255, int(rng.integers(256))))
        try:
            translated(bytes(data), "the file")
            kinds.add("")
        except MpccError as error:
            kinds.add(error.code.split("-")[1])
    assert {"", "model"} <= kinds <= {"", "model", "import"}


def test_parts_that_are_referred_to_again_and_again():
    """A short file must not become long by many offsets to one list."""
    data = bytearray(b"\0\0\0\0TFL3" + b"\4\0\4\0")  # a table without fields begins at 12
    data[0:4] = (12).to_bytes(4, "little")
    data += (4).to_bytes(4, "little")
    table = root(bytes(data), b"TFL3")

    def read():
        for _ in range(1 << 20):
            table.part(0, len(data))

    with pytest.raises(MalformedError, match="again and again"):
        read()


def test_other_versions_and_types(schema, tmp_path):
    data = chain(schema, "RELU")
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)

    def packed():
        import flatbuffers

        builder = flatbuffers.Builder(64)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    model.version = 2
    assert "version 2" in str(refused(imported, packed(), tmp_path / "old.tflite"))
    model.version = 3
    model.subgraphs[0].tensors[0].type = 99
    assert "unknown type 99" in str(refused(imported, packed(), tmp_path / "type.tflite"))
    model.subgraphs[0].tensors[0].type = 0
    model.subgraphs[0].operators[0].inputs = [7]
    assert "number 7 of 2" in str(refused(imported, packed(), tmp_path / "number.tflite"))
    model.subgraphs[0].operators = []
    assert "nothing to compute" in str(refused(imported, packed(), tmp_path / "empty.tflite"))


def test_a_constant_without_its_bytes(schema, tmp_path):
    tensors = [("x", (2,), "float32"), ("w", (3,), np.ones(2, F)), ("y", (2,), "float32")]
    data = made(schema, tensors, [("MUL", [0, 1], [2], None)], [0], [2])
    assert "w has 8 bytes" in str(refused(imported, data, tmp_path / "short.tflite"))


def test_files_that_are_not_there(tmp_path):
    assert refused(import_tflite, tmp_path / "no.tflite").code == "E-model-missing"
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.write(b"\x1c\0\0\0TFL3")
        file.truncate(1 << 31)
    assert refused(import_model, large).code == "E-model-size"


# --- what is refused -----------------------------------------------------------------------------


def test_everything_is_listed_at_once(schema, tmp_path):
    data = chain(schema, "WHERE", "WHILE", "RELU", "WHERE", "QUANTIZE", "RANDOM_UNIFORM")
    error = refused(imported, data, tmp_path / "model.tflite")
    text = str(error)
    assert {d.code for d in error.diagnostics} == {"E-import-unsupported"}
    assert "WHERE: the shape of its result depends on secret data" in text
    assert "node v0, v3" in text
    assert "WHILE: control flow" in text
    assert "QUANTIZE: quantised numbers are not supported" in text
    assert "RANDOM_UNIFORM: it draws random numbers" in text
    assert "RELU" not in text


def test_inputs_that_are_no_numbers(schema, tmp_path):
    data = chain(schema, "RESHAPE", kind="string")
    text = str(refused(imported, data, tmp_path / "model.tflite"))
    assert "input x is of string, not of numbers" in text
    assert "RESHAPE: elements of string" in text


def test_signatures_and_shapes(tf, small, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(small)
    assert format_of(path).title == "TensorFlow Lite"
    assert [p.name for p in import_model(path, signature="serving_default").outputs] == ["y"]
    error = refused(import_model, path, signature="serve")
    assert error.code == "E-model-signature"
    assert "it has serving_default" in str(error)
    assert refused(import_model, path, {"x": (2, 4, 4, 1)}).code == "E-import-shape"
    assert refused(import_model, path, batch=3).code == "E-import-batch"
    assert refused(import_model, path, owners={"kernel": "public"}).code == "E-import-name"

    data = converted(tf, (lambda x: {"y": x + 1.0}, {"x": (None, 3, "float32")}))
    error = refused(imported, data, path)
    assert "--shape x=1,3" in str(error)


def test_without_a_signature_names_are_those_of_tensors(schema, tmp_path):
    file = imported(chain(schema, "RELU"), tmp_path / "model.tflite")
    assert [p.name for p in (*file.inputs, *file.outputs)] == ["x", "y"]
    error = refused(import_model, tmp_path / "model.tflite", signature="serve")
    assert "it has none at all" in str(error)


def test_quantised_models(tf, tmp_path):
    def run(x):
        return {"y": tf.nn.relu(tf.matmul(x, np.eye(4, dtype=F)))}

    def whole(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        rng = np.random.default_rng(1)
        converter.representative_dataset = lambda: [
            [rng.standard_normal((2, 4)).astype(F)] for _ in range(4)
        ]

    data = converted(tf, (run, {"x": (2, 4, "float32")}), whole)
    text = str(refused(imported, data, tmp_path / "model.tflite"))
    assert "QUANTIZE: quantised numbers are not supported" in text
    assert "FULLY_CONNECTED: it computes with quantised numbers" in text
    assert "convert the model without quantisation" in text


def test_operators_of_others(schema, tmp_path):
    data = chain(schema, "CUSTOM FlexErfinv", "CUSTOM Detection")
    text = str(refused(imported, data, tmp_path / "model.tflite"))
    assert "CUSTOM FlexErfinv: an operator of TensorFlow itself" in text
    assert "CUSTOM Detection: an operator of somebody else's" in text
