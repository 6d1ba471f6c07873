"""TensorFlow, which converts the models that this folder's tests import."""

import pytest

from tests.frontend.tensorflow.conftest import silence, tf  # noqa: F401


@pytest.fixture(scope="session")
def schema(tf):  # noqa: F811
    """TensorFlow's own module of the file format."""
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated
