"""Secret positions: given as numbers, as integers that are computed, and of integer inputs."""

import numpy as np
from onnx import TensorProto

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, Row, weights

# Whole numbers from 0 to 2.
CAST = [node("Cast", ["x"], ["i"], to=TensorProto.INT64)]
NEGATIVE = [*CAST, node("Sub", ["i", "three"], ["n"])]

ROWS = [
    Row("gather secret", "Gather", {"x": (2, 3)}, {"t": weights(3, 4)}, {}, (7, 11, 13),
        operands=("t", "i"), before=CAST, whole=True),
    Row("gather secret scalar", "Gather", {"x": ()}, {"t": weights(5, 2)}, {}, (13,),
        operands=("t", "i"), before=CAST, whole=True),
    Row("gather secret column", "Gather", {"x": (2, 2)}, {"t": weights(2, 3, 5)}, {"axis": 1},
        (13,), operands=("t", "i"), before=CAST, whole=True),
    Row("gather secret from the end", "Gather", {"x": (4,)},
        {"t": weights(4, 2), "three": np.array(3)}, {"axis": -2}, (13,), operands=("t", "n"),
        before=NEGATIVE, whole=True),
    Row("gather secret of an input", "Gather", {"x": (4,), "t": (3, 2)}, {}, {}, (13,),
        operands=("t", "i"), before=CAST, whole=True),
    Row("gather integers, secret", "Gather", {"x": (3,)}, {"t": np.arange(4) * 2}, {}, (13,),
        operands=("t", "i"), before=CAST, whole=True, outputs=(TensorProto.INT64,)),
    Row("softmax of a choice with -inf", "Softmax", {"x": (2, 3)},
        {"low": np.tril(np.ones((2, 3), bool)), "far": np.float32(-np.inf)}, {}, (13,),
        operands=("m",), before=[node("Where", ["low", "x", "far"], ["m"])], disclosed=1,
        whole=True),
    Row("softmax of a sum with -inf", "Softmax", {"x": (2, 3)},
        {"far": np.where(np.tril(np.ones((2, 3), bool)), 0, -np.inf).astype(np.float32)}, {},
        (13,), operands=("m",), before=[node("Add", ["x", "far"], ["m"])], whole=True),
    Row("softmax of a secret mask", "Softmax", {"x": (2, 3), "z": (2, 3)},
        {"far": np.float32(-np.inf), "one": np.float32(2.5)}, {}, (13,),
        operands=("m",), before=[node("Less", ["x", "one"], ["c"]),
        node("Where", ["c", "z", "far"], ["m"])], whole=True),
    Row("where of secret masks", "Where", {"x": (2, 3), "z": (2, 3)}, {"far": np.float32(-1e4)}, {},
        (9, 16), operands=("c", "z", "far"), whole=True,
        before=[node("Cast", ["x"], ["c"], to=TensorProto.BOOL)], outputs=(FLOAT,)),
]  # fmt: skip
