"""The native code inside processes that have loaded other libraries with the same symbols.

TensorFlow brings BoringSSL, whose functions are named like OpenSSL's. The dynamic linker gives the
first that was loaded to everybody who asks by name.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from mpcc import _native
from mpcc.runtime import native

BESIDE_TENSORFLOW = """
import tensorflow  # first, so that its symbols are found first
import numpy as np
import mpcc
from benchmarks import models

network = models.NETWORKS["A"]()
(sample,) = models.sample_inputs(network)
samples = {name: value[None] for name, value in sample.items()}
compiled = mpcc.compile(network.serialized(), calibration=samples)
with mpcc.Session(compiled.artifact, compiled.weights) as session:
    (answer,) = session.run(sample).outputs.values()
assert np.isfinite(answer).all() and np.abs(answer).max() > 0
print("answered", answer.shape)
"""


@pytest.mark.tensorflow
def test_a_session_in_a_process_with_tensorflow():
    pytest.importorskip("tensorflow")
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_TENSORFLOW], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "answered (1, 10)" in done.stdout


@pytest.mark.parametrize(
    "library",
    [Path(native.party_program()).with_name("libmpcc.so"), Path(str(_native.__file__))],
    ids=["libmpcc", "_native"],
)
def test_nothing_is_asked_of_a_shared_openssl(library):
    """Neither wanted from other libraries nor given to them."""
    symbols = subprocess.run(
        ["nm", "--dynamic", library], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = [line.split()[-1] for line in symbols]
    assert len(names) > 50
    assert not [n for n in names if n.startswith(("SSL_", "EVP_", "CRYPTO_", "BIO_", "X509_"))]
