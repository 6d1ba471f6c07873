"""Attention and rotary embeddings, compared with ONNX's reference; whole numbers keep it finite."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, Row, ints, weights

QKV = {"q": (2, 2, 3, 4), "k": (2, 2, 3, 4), "v": (2, 2, 3, 4)}
FLAT = {"q": (1, 3, 8), "k": (1, 4, 4), "v": (1, 4, 4)}
SHARED = {"q": (1, 4, 3, 2), "k": (1, 2, 3, 2), "v": (1, 2, 3, 5)}
NEWEST = (23, 24, 25)
LOWER = np.tril(np.ones((3, 3), bool))


def attention(
    name: str,
    inputs: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, object] | None = None,
    attrs: Mapping[str, Any] | None = None,
    opsets: tuple[int, ...] = (24,),
    **more: Any,
) -> Row:
    return Row(f"attention {name}", "Attention", inputs, constants or {}, attrs or {}, opsets,
               reference=True, whole=True, **more)  # fmt: skip


def rotary(
    name: str,
    inputs: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, object],
    attrs: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    return Row(f"rotary {name}", "RotaryEmbedding", inputs, constants, attrs or {}, (23,),
               reference=True, **more)  # fmt: skip


PLACES = np.array([[0, 3, 8, 1]])
MASKED = ("q", "k", "v", "m")
PAST = {**QKV, "pk": (2, 2, 2, 4), "pv": (2, 2, 2, 4)}

ROWS = [
    attention("plain", QKV, opsets=NEWEST),
    attention("causal", QKV, attrs={"is_causal": 1}, opsets=NEWEST),
    attention("flat, shared heads", FLAT, attrs={"q_num_heads": 2, "kv_num_heads": 1,
              "scale": 0.25}),
    attention("shared heads", SHARED),
    attention("mask", QKV, {"m": LOWER}, disclosed=1),
    attention("causal mask", QKV, {"m": np.array([[True, False, True]] * 3)}, {"is_causal": 1},
              disclosed=1),
    attention("mask of numbers", QKV, {"m": np.where(LOWER, weights(3, 3), -1e9)
              .astype(np.float32)}),
    attention("query that sees nothing", QKV,
              {"m": np.array([[True] * 3, [False] * 3, [True] * 3])}, disclosed=1),
    attention("short mask", QKV, {"m": np.array([[True, True]])}, disclosed=1),
    attention("computed mask", {**QKV, "x": (3, 3)}, operands=MASKED,
              before=[node("Cast", ["x"], ["b"], to=TensorProto.BOOL),
                      node("Or", ["b", "diagonal"], ["m"])],
              constants={"diagonal": np.eye(3, dtype=bool)}),
    attention("mask that is given", {**QKV, "m": (2, 1, 3, 3)}),
    attention("softcap", QKV, attrs={"softcap": 2.0}),
    attention("cache", PAST, operands=("q", "k", "v", "", "pk", "pv"), attrs={"is_causal": 1},
              outputs=(FLOAT,) * 3),
    attention("scores", QKV, operands=("q", "k", "v"), attrs={"qk_matmul_output_mode": 3},
              outputs=(FLOAT,) * 4),
    attention("raw scores", QKV, outputs=(FLOAT,) * 4),
    attention("raw scores, softcap", QKV, attrs={"softcap": 2.0, "qk_matmul_output_mode": 1},
              outputs=(FLOAT,) * 4),
    attention("scores with a mask", {**QKV, "m": (2, 1, 3, 3)},
              attrs={"qk_matmul_output_mode": 2}, outputs=(FLOAT,) * 4),
    attention("lengths", QKV, {"n": ints(3, 2)}, operands=("q", "k", "v", "", "", "", "n")),
    attention("window", QKV, attrs={"left_window_size": 1, "right_window_size": 0}, opsets=(25,)),
    rotary("plain", {"x": (2, 3, 4, 6)}, {"c": weights(2, 4, 3), "s": weights(2, 4, 3)}),
    rotary("flat", {"x": (2, 4, 12)}, {"c": weights(2, 4, 3), "s": weights(2, 4, 3)},
           {"num_heads": 2}),
    rotary("interleaved", {"x": (1, 2, 4, 6)}, {"c": weights(9, 2), "s": weights(9, 2),
           "i": PLACES}, {"interleaved": 1, "rotary_embedding_dim": 4}),
    rotary("computed angles", {"x": (1, 2, 4, 6), "c": (9, 3), "s": (9, 3)}, {"i": PLACES}),
    rotary("secret positions", {"x": (1, 2, 2, 6), "p": (1, 2)},
           {"c": weights(3, 3), "s": weights(3, 3)}, operands=("x", "c", "s", "i"), whole=True,
           before=[node("Cast", ["p"], ["i"], to=TensorProto.INT64)]),
]  # fmt: skip
