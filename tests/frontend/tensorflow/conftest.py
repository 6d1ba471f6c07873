"""TensorFlow for this folder's tests, imported once per process."""

from importlib import util

import pytest

from mpcc.frontend.tensorflow.runtime import quiet, tensorflow


@pytest.fixture(scope="session")
def tf():
    if util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed (pip install 'mpcc[tensorflow]')")
    return tensorflow()


@pytest.fixture(autouse=True)
def silence():
    """Warnings of TensorFlow and Keras about themselves are not ours."""
    with quiet():
        yield
