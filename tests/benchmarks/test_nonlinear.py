"""The models with functions of secrets compute what they say."""

import math
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks import nonlinear
from benchmarks.cases import CASES
from benchmarks.nonlinear import FUNCTIONS, INPUT_NAME

ERF = np.vectorize(math.erf)

REFERENCES: dict[str, Any] = {
    "exp": np.exp,
    "reciprocal": lambda x: 1 / x,
    "sqrt": np.sqrt,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": ERF,
    "gelu": lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelutanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT_NAME: x})[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_one_that_its_name_says(name):
    function = FUNCTIONS[name]
    x = function.inputs(1)
    lo, hi = function.bounds
    assert x.min() >= np.float32(lo)
    assert x.max() <= np.float32(hi)
    found = run(nonlinear.function_model(function), x)
    np.testing.assert_allclose(found, REFERENCES[name](x.astype(np.float64)), rtol=1e-5, atol=1e-6)
    assert CASES[name].group == "functions"


def test_the_bert_layer_ends_in_a_layer_norm_of_its_own_width():
    x = nonlinear.bert_inputs(1, seed=1)[0]
    y = run(nonlinear.bert_layer(), x)
    assert y.shape == x.shape == (1, 128, 768)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(-1), 1, atol=1e-3)
    # A token changes the others: attention is there.
    moved = x.copy()
    moved[0, 0] = -moved[0, 0]
    assert np.abs(run(nonlinear.bert_layer(), moved)[0, 1:] - y[0, 1:]).max() > 1e-4
