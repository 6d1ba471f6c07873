"""What cannot be imported from TensorFlow: a clear error each, everything at once."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mpcc.cli import app
from mpcc.errors import MpccError
from mpcc.frontend import format_of, import_model
from mpcc.frontend.tensorflow.loader import import_function, import_keras, import_saved_model
from mpcc.frontend.tensorflow.runtime import quiet
from mpcc.frontend.tensorflow.support import OPERATORS
from tests.frontend.tensorflow.checks import concrete

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]


def refused(call, *arguments, **options) -> MpccError:
    with pytest.raises(MpccError) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """A module with two signatures and a variable."""
    module = tf.Module()
    module.factor = tf.Variable([1.0, 2.0, 3.0], name="factor")
    x, y = tf.TensorSpec((None, 3), name="x"), tf.TensorSpec((None, None), name="y")
    module.times = tf.function(lambda x: {"scaled": x * module.factor}, input_signature=[x])
    module.plus = tf.function(
        lambda x, y: {"sum": x + y, "less": tf.cast(x < y, tf.float32)}, input_signature=[x, y]
    )

    folder = tmp_path_factory.mktemp("saved") / "model"
    with quiet():
        tf.saved_model.save(module, folder, {"times": module.times, "plus": module.plus})
    return folder


def test_signatures_are_chosen_by_name(saved):
    imported = import_model(saved, {"x": (2, 3)}, signature="times")
    assert [p.name for p in imported.outputs] == ["scaled"]
    np.testing.assert_array_equal(imported.constants["factor"], [1, 2, 3])
    imported = import_model(saved, {"x": (2, 3), "y": (1, 3)}, signature="plus")
    assert [p.name for p in imported.inputs] == ["x", "y"]
    assert {p.name for p in imported.outputs} == {"less", "sum"}


def test_a_signature_that_is_not_there(saved):
    error = refused(import_model, saved, signature="serve")
    assert error.code == "E-model-signature"
    assert "it has plus, times" in str(error)
    assert "no signature serving_default" in str(refused(import_model, saved))


def test_open_dimensions_are_listed_at_once(saved):
    error = refused(import_saved_model, saved, signature="plus")
    assert [d.code for d in error.diagnostics] == ["E-import-dynamic"] * 2
    assert "--shape x=1,3" in str(error)
    assert "--shape y=1,1" in str(error)


@pytest.mark.parametrize(
    ("shapes", "batch", "code", "text"),
    [
        ({"x": (2, 4)}, None, "E-import-shape", "dimension 1 of input x is 3, not 4"),
        ({"x": (2, 3, 1)}, None, "E-import-shape", "has 2 dimensions, not 3"),
        ({"x": (0, 3)}, None, "E-import-shape", "must be from 1"),
        ({"z": (2, 3)}, 1, "E-import-name", "the model has no input z"),
        ({"x": (None, 3)}, None, "E-import-batch", "none is given"),
        ({"x": (2, 3)}, 4, "E-import-batch", "fixed size"),
    ],
)
def test_shapes_that_do_not_fit(saved, shapes, batch, code, text):
    error = refused(import_saved_model, saved, shapes, batch=batch, signature="times")
    assert error.code == code
    assert text in str(error)


def test_owners_that_do_not_exist(saved):
    options = {"batch": 1, "signature": "times"}
    error = refused(import_saved_model, saved, owners={"faktor": "public"}, **options)
    assert error.code == "E-import-name"
    assert "factor" in str(error)


def copied(saved, to):
    for file in saved.rglob("*"):
        if file.is_file():
            target = to / file.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return to


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"],
)
def test_half_a_saved_model(saved, tmp_path, name):
    folder = copied(saved, tmp_path / "half")
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    error = refused(import_saved_model, folder, batch=1, signature="times")
    assert error.code == "E-model-invalid"
    file.unlink()
    error = refused(import_saved_model, folder, batch=1, signature="times")
    assert error.code in ("E-model-invalid", "E-model-missing")


def test_a_graph_of_two_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.truncate(1 << 31)
    error = refused(import_saved_model, tmp_path)
    assert error.code == "E-model-size"
    assert "more than" in str(error)


def test_no_model_at_all(tmp_path):
    assert refused(import_model, tmp_path).code == "E-model-missing"
    assert "no saved_model.pb" in str(refused(import_model, tmp_path))
    assert refused(import_saved_model, tmp_path / "nothing").code == "E-model-missing"
    assert refused(import_keras, tmp_path / "nothing").code == "E-model-missing"


def test_keras_files_that_are_none(tf, tmp_path):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK\3\4" + bytes(100))
    assert format_of(broken).title == "Keras"
    assert refused(import_model, broken, batch=1).code == "E-model-invalid"
    half = tmp_path / "weights.h5"
    half.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    error = refused(import_model, half, batch=1)
    assert error.code == "E-model-invalid"
    assert "not its weights alone" in str(error)
    error = refused(import_model, half, signature="serve")
    assert error.code == "E-model-signature"


def test_everything_is_listed_at_once(tf):
    def run(a):
        with tf.name_scope("first"):
            b = tf.math.lgamma(a)
        with tf.name_scope("second"):
            c = tf.math.lgamma(b) + tf.random.normal((2, 3))
        return tf.raw_ops.ReluGrad(gradients=c, features=a), tf.where(a > 0)

    error = refused(import_function, concrete(tf, run, (2, 3)))
    text = str(error)
    assert {d.code for d in error.diagnostics} == {"E-import-unsupported"}
    assert "Lgamma: the operator is not supported" in text
    assert "first/Lgamma, second/Lgamma" in text
    assert "it draws random numbers" in text
    assert "ReluGrad: it is of training only" in text
    assert "Where: the shape of its result depends on secret data" in text


def test_text_and_tables(tf):
    def run(a):
        return tf.strings.to_number(a)

    error = refused(import_function, concrete(tf, run, ((2,), "string")))
    assert "input a is of string, not of numbers" in str(error)
    assert "StringToNumber: only numbers can be shared, no text" in str(error)

    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer([1, 2], [3.0, 4.0], tf.int64, tf.float32), 0.0
    )
    error = refused(import_function, concrete(tf, table.lookup, ((2,), "int64")))
    assert "tables and data sets" in str(error)


def test_state_is_refused(tf):
    count = tf.Variable(0.0)

    def run(a):
        count.assign_add(1.0)
        return a + count

    error = refused(import_function, concrete(tf, run, (2,)))
    assert "AssignAddVariableOp: it changes a variable" in str(error)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda tf, a: tf.reshape(a, [tf.cast(a[0, 0], tf.int32), -1]), "computed from an input"),
        (
            lambda tf, a: tf.while_loop(
                lambda x: tf.reduce_sum(x) < 9.0, lambda x: (x + 1.0,), (a,)
            )[0],
            "the number of steps depends on secret data",
        ),
        (
            lambda tf, a: tf.while_loop(lambda i, x: i < 2000, lambda i, x: (i + 1, x), (0, a))[1],
            "more than 1024 steps",
        ),
        (lambda tf, a: tf.zeros((2, 3)), "is a constant of the model"),
        (
            lambda tf, a: a[:, 0] + tf.raw_ops.Fill(dims=[1 << 30], value=1.0)[:2],
            "more than 16777216 elements",
        ),
    ],
)
def test_what_no_program_has(tf, run, text):
    function = concrete(tf, lambda a: run(tf, a), (2, 3))
    assert text in str(refused(import_function, function))


def test_conditions(tf):
    """Public ones are decided; of secret ones both branches are computed."""

    def run(a):
        b = tf.cond(tf.shape(a)[0] > 1, lambda: a * 2.0, lambda: a - 1.0)
        return tf.cond(tf.reduce_sum(b) > 0.0, lambda: b + 1.0, lambda: b * 0.5)

    from tests.frontend.tensorflow.checks import compared

    for sign in (1.0, -1.0):
        inputs = {"a": np.full((2, 3), sign, np.float32)}
        imported = compared(tf, concrete(tf, run, (2, 3)), inputs)
        assert len(list(imported.module.main.walk("tensor.where"))) == 1


def test_the_command_lists_what_can_be_imported():
    """Without importing TensorFlow."""
    shown = CliRunner().invoke(app, ["ops", "--tensorflow", "--json"])
    assert shown.exit_code == 0
    rows = {row["name"]: row["note"] for row in json.loads(shown.stdout)}
    assert rows.keys() == OPERATORS.keys()
    assert all(rows.values())
    assert rows["Square"].startswith("x x")
    shown = CliRunner().invoke(app, ["ops", "--tensorflow"])
    assert "FusedBatchNormV3" in shown.stdout


def test_without_tensorflow(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from importlib import util; find = util.find_spec\n"
        "util.find_spec = lambda n: None if n == 'tensorflow' else find(n)\n"
        "from mpcc.frontend import import_model; from mpcc.errors import MpccError\n"
        "try: import_model(sys.argv[1])\n"
        "except MpccError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "E-import-tensorflow" in done.stdout
    assert "pip install 'mpcc[tensorflow]'" in done.stdout


def test_the_import_is_quiet(tf, saved):
    """Nothing of TensorFlow's own reaches the user, and its variables leave the environment."""
    script = (
        "import os, sys; before = dict(os.environ)\n"
        "from mpcc.frontend import import_model\n"
        "assert 'tensorflow' not in sys.modules\n"
        "import_model(sys.argv[1], batch=1, signature='times')\n"
        "assert 'tensorflow' in sys.modules and dict(os.environ) == before"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(saved)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
