"""Smooth functions of single numbers."""

from tests.frontend.rows.table import Row

X = {"x": (3, 11)}

ROWS = [
    Row("exp", "Exp", X, largest=40.0),
    Row("sinh", "Sinh", X, opsets=(9, 22), largest=40.0),
    Row("cosh", "Cosh", X, opsets=(9, 22), largest=40.0),
    Row("asinh", "Asinh", X, opsets=(9, 22)),
    Row("acosh", "Acosh", X, opsets=(9, 22)),
    Row("atanh", "Atanh", X, opsets=(9, 22)),
    Row("sin", "Sin", X, opsets=(7, 22)),
    Row("cos", "Cos", X, opsets=(7, 22)),
    Row("asin", "Asin", X, opsets=(7, 22)),
    Row("acos", "Acos", X, opsets=(7, 22)),
    Row("atan", "Atan", X, opsets=(7, 22)),
    Row("sigmoid", "Sigmoid", X),
    Row("tanh", "Tanh", X),
    Row("erf", "Erf", X, opsets=(9, 13)),
    Row("gelu", "Gelu", X, opsets=(20,)),
    Row("gelu by tanh", "Gelu", X, {}, {"approximate": "tanh"}, (20,)),
    Row("mish", "Mish", X, opsets=(18, 22)),
    Row("softplus", "Softplus", X, opsets=(7, 22)),
    Row("swish", "Swish", X, opsets=(24,), reference=True),
    Row("swish of 2", "Swish", X, {}, {"alpha": 2.0}, (24,), reference=True),
    Row("swish of 0", "Swish", X, {}, {"alpha": 0.0}, (24,), reference=True),
    Row("swiglu", "SwiGLU", {"a": (2, 3), "b": (2, 3)}, {}, {"alpha": 1.5}, (28,), reference=True),
    Row("elu", "Elu", X, opsets=(7, 22)),
    Row("elu of 1.5", "Elu", X, {}, {"alpha": 1.5}, (7, 22)),
    Row("selu", "Selu", X, opsets=(7, 22)),
    Row("selu of its own", "Selu", X, {}, {"alpha": 0.5, "gamma": 2.0}, (7, 22)),
    Row("celu", "Celu", X, opsets=(12,)),
    Row("celu of 2", "Celu", X, {}, {"alpha": 2.0}, (12,)),
]
