"""Stock TensorFlow runs a program's graph with the op library: the same shares as everywhere else.

Five servers of TensorFlow's own distributed runtime stand in this process, one per place, and the
graph's devices are theirs; what crosses between them goes through TensorFlow's own edges.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import models
from mpcc import _native
from mpcc.emit.graphdef import emit, parse
from mpcc.emit.schema import GraphDef
from mpcc.emit.tensorboard import event_file
from mpcc.emit.tensorflow import (
    for_tensorflow,
    part_for_tensorflow,
    tasks_for_tensorflow,
    without_calls,
)
from mpcc.errors import MpccError
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.frontend.tensorflow.runtime import quiet
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp.party import SeededKeys, Session
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import ClearType, RingType
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols import Rep3, lower_program
from mpcc.runtime.certificates import issue
from mpcc.runtime.tensorflow import Endpoint, Task, load, session_config
from tests.emit.programs import every_op, inputs_for, with_calls
from tests.runtime.sum_program import NAMES, SHAPE, program, values

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]
pytest.importorskip("tensorflow")

PLACES = ("P0", "P1", "P2", "client", "model")
SEED = 11


def draws(module: Module) -> Iterator[Any]:
    for op in module.main.ops:
        for inner in [op, *(op.body.ops if op.body is not None else ())]:
            if inner.name in ("party.draw_ring", "party.draw_bits"):
                yield inner


def keys_of(module: Module, place: str, run: int, seed: int = SEED) -> dict[str, bytes]:
    """The test keys that a place draws from in a phase, as every engine derives them."""
    phase = "online" if run else "setup"
    names = {d.attrs["key"] for d in draws(module) if d.attrs["phase"] == phase}
    keys = SeededKeys(seed)
    return {
        name: keys.key(name, f"run:{run}" if run else "setup")
        for name in sorted(names)
        if place in name.split("+")
    }


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """TensorFlow knows the ops, whichever test comes first."""
    with quiet():
        load()


def start(jobs: Mapping[str, int]) -> Any:
    """Servers for so many tasks of each job; the client's address."""
    import tensorflow as tf

    sockets = {job: [socket.socket() for _ in range(count)] for job, count in jobs.items()}
    for s in (s for found in sockets.values() for s in found):
        s.bind(("127.0.0.1", 0))
    spec = tf.train.ClusterSpec(
        {job: [f"127.0.0.1:{s.getsockname()[1]}" for s in found] for job, found in sockets.items()}
    )
    for s in (s for found in sockets.values() for s in found):
        s.close()
    servers = {
        (job, task): tf.distribute.Server(spec, job_name=job, task_index=task, start=True)
        for job, count in jobs.items()
        for task in range(count)
    }
    return servers["client", 0].target


@pytest.fixture(scope="module")
def target() -> Any:
    """The address of a server of a cluster with one server per place."""
    return start({"party": 3, "client": 1, "model": 1})


class Run:
    """A program with its tasks and an imported graph; used in a with statement."""

    def __init__(
        self,
        module: Module,
        weights: Any,
        target: str,
        scope: str = "",
        edit: Callable[[Any], None] = lambda graph: None,
    ) -> None:
        import tensorflow as tf

        self.module = module
        program = emit(module)
        self.tasks = {place: Task(program, place, scope) for place in PLACES}
        for op in module.main.walk("party.weight"):
            words = np.uint64 if op.attrs["ring"] == 64 else np.uint32
            array = np.asarray(weights[op.attrs["name"]]).astype(words)
            self.tasks[op.attrs["place"]].give(op.attrs["name"], array)
        for place, task in self.tasks.items():
            task.begin(0, keys_of(module, place, 0))
        graph_def = tf.compat.v1.GraphDef.FromString(for_tensorflow(program))
        edit(graph_def)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(graph_def, name=scope.rstrip("/"))
        self.session = tf.compat.v1.Session(target, graph=self.graph, config=session_config())

    def begin(self, number: int, inputs: Any) -> None:
        for op in self.module.main.walk("party.input"):
            self.tasks[op.attrs["place"]].give(
                op.attrs["name"], np.asarray(inputs[op.attrs["name"]], np.float32)
            )
        for place, task in self.tasks.items():
            task.begin(number, keys_of(self.module, place, number))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        for task in self.tasks.values():
            task.close()


def compare(module: Module, weights: Any, inputs: Any, target: str, runs: int = 1) -> int:
    """Every value of every run against the interpreter's, outputs against the native engine's.

    Returns the number of values compared.
    """
    names = {}
    for index, op in enumerate(module.main.ops):
        for i, value in enumerate(op.results):
            names[value] = f"n{index}:{i}"
    wanted = Session(module, weights, SeededKeys(SEED), keep=list(names))
    words = {
        op.attrs["name"]: np.asarray(weights[op.attrs["name"]]).astype(
            np.uint64 if op.attrs["ring"] == 64 else np.uint32
        )
        for op in module.main.walk("party.weight")
    }
    floats = {k: np.asarray(v, np.float32) for k, v in inputs.items()}
    native, _ = _native.run_in_memory(emit(module), words, [floats] * runs, SEED)
    compared = 0
    with Run(module, weights, target) as run:
        ends = [f"n{i}" for i, op in enumerate(module.main.ops) if op.name == "party.output"]
        for number in range(1, runs + 1):
            run.begin(number, inputs)
            operations = [run.graph.get_operation_by_name(name) for name in ends]
            found, _ = run.session.run([names, operations])
            expected = wanted.run(inputs, number, keep=list(names))
            values = {**wanted.setup.values, **expected.values}
            for value, name in names.items():
                assert found[value].tobytes() == values[value].tobytes(), name
                compared += 1
            for op in module.main.walk("party.output"):
                type_ = op.operands[0].type
                assert isinstance(type_, ClearType)
                opened = run.tasks[type_.place].output(op.attrs["name"], type_.shape)
                assert opened.tobytes() == native[number - 1][op.attrs["name"]].tobytes()
    return compared


def test_every_op_gives_the_same_shares(target):
    module = every_op()
    inputs, weights = inputs_for(module, 3)
    inputs = {name: x / 10 for name, x in inputs.items()}  # the program takes up to 0.1
    assert compare(module, weights, inputs, target, runs=2) > 100


def test_network_a_gives_the_same_shares(target):
    network = models.network_a()
    samples = models.sample_inputs(network, 3)
    imported = import_onnx(network.serialized())
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    phi = analyse(module, constants, samples, FormatOptions()).phi
    secure = build_secure(module, phi, FormatOptions())
    program = lower_program(secure, Rep3()).party
    FuseLocal().run(program)
    assert compare(program, encode_weights(constants, secure), samples[0], target) > 100


def test_two_tasks_of_every_party_in_one_graph():
    import tensorflow as tf

    module = program()
    data = emit(module)
    weights, inputs, _ = values()
    given = [inputs, {"x": inputs["x"][::-1] / 3}]
    tasks = {
        (k, place): Task(data, place, f"task{k}/") for k in range(len(given)) for place in PLACES
    }
    graph = tf.Graph()
    with graph.as_default():
        made = tasks_for_tensorflow(data, len(given))
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(made), name="")
    devices = {op.device.partition("/device")[0] for op in graph.get_operations() if op.device}
    parties = {f"/job:party{n}/replica:0/task:{k}" for n in range(3) for k in range(2)}
    assert devices == parties | {f"/job:{job}/replica:0/task:0" for job in ("client", "model")}
    target = start({"party0": 2, "party1": 2, "party2": 2, "client": 1, "model": 1})
    try:
        for k, arrays in enumerate(given):
            tasks[k, "model"].give("w", weights["w"])
            tasks[k, "client"].give("x", np.ascontiguousarray(arrays["x"]))
            for run in (0, 1):
                for place in PLACES:
                    tasks[k, place].begin(run, keys_of(module, place, run, seed=100 + k))
        with tf.compat.v1.Session(target, graph=graph, config=session_config()) as session:
            session.run([op for op in graph.get_operations() if op.type == "MpccOutput"])
        for k, arrays in enumerate(given):
            native, _ = _native.run_in_memory(data, weights, [dict(arrays)], 100 + k)
            found = tasks[k, "client"].output("y", SHAPE)
            assert found.tobytes() == native[0]["y"].tobytes()
    finally:
        for task in tasks.values():
            task.close()


def test_calls_are_written_out(target):
    module = with_calls()
    inputs, weights = inputs_for(module, 3)
    inputs = {name: x / 10 for name, x in inputs.items()}
    with pytest.raises(MpccError, match="E-tf-calls"):
        Task(emit(module), "P0")
    compare(parse(without_calls(emit(module))), weights, inputs, target)


@pytest.fixture
def small() -> Any:
    """(program with every op, inputs, weights)."""
    module = every_op()
    inputs, weights = inputs_for(module, 3)
    return module, {name: x / 10 for name, x in inputs.items()}, weights


def edit_stream(graph: Any) -> None:
    node = next(n for n in graph.node if n.op == "MpccDrawRing")
    node.attr["stream"].i += 1


def edit_body(graph: Any) -> None:
    function = next(f for f in graph.library.function if f.signature.name == "fused_0")
    node = next(n for n in function.node_def if n.op == "MpccDrawRing")
    node.attr["stream"].i += 1


def edit_body_op(graph: Any) -> None:
    function = next(f for f in graph.library.function if f.signature.name == "fused_0")
    node = next(n for n in function.node_def if n.op == "MpccAdd")
    node.op = "MpccSub"


def edit_input(graph: Any) -> None:
    node = next(n for n in graph.node if n.op == "MpccSub")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def edit_route(graph: Any) -> None:
    """A message goes through another op, whose name begins as the sender's."""
    transfer = next(n for n in graph.node if n.op == "MpccTransfer")
    node = graph.node.add(name=f"{transfer.input[0].split(':')[0]}_other", op="Identity")
    node.input.append(transfer.input[0])
    node.device = transfer.device
    node.attr["T"].type = transfer.attr["Tin"].list.type[0]
    transfer.input[0] = node.name


def edit_op(graph: Any) -> None:
    node = next(n for n in graph.node if n.op == "MpccSub")
    node.op = "MpccAdd"


def edit_place(graph: Any) -> None:
    node = next(n for n in graph.node if n.op == "MpccTransfer")
    node.attr["to"].s = b"P2"


def edit_name(graph: Any) -> None:
    last = graph.node[-1]
    last.name = "n100000"


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (edit_stream, "attribute stream"),
        (edit_body, "function fused_0"),
        (edit_body_op, "function fused_0"),
        (edit_input, "input 0"),
        (edit_route, "input 0"),
        (edit_op, "the operation"),
        (edit_place, "attribute to"),
        (edit_name, "a node that the program does not have"),
    ],
)
def test_an_edited_graph_is_refused(target, small, edit, what):
    import tensorflow as tf

    module, inputs, weights = small
    with Run(module, weights, target, edit=edit) as run:
        run.begin(1, inputs)
        everything = [op for op in run.graph.get_operations() if op.type.startswith("Mpcc")]
        with pytest.raises(tf.errors.OpError, match=f"E-tf-edited: {what}"):
            run.session.run(everything)


def outputs_of(run: Run) -> list[Any]:
    return [op for op in run.graph.get_operations() if op.type == "MpccOutput"]


def test_a_run_is_run_once(target, small):
    import tensorflow as tf

    module, inputs, weights = small
    with Run(module, weights, target) as run:
        with pytest.raises(tf.errors.OpError, match="E-tf-run: the setup has begun, but no run"):
            run.session.run(outputs_of(run))
        run.begin(1, inputs)
        run.session.run(outputs_of(run))
        for op in module.main.walk("party.input"):
            run.tasks["client"].give(op.attrs["name"], inputs[op.attrs["name"]])
        with pytest.raises(tf.errors.OpError, match="E-tf-run: the graph is run twice in run 1"):
            run.session.run(outputs_of(run))
        # An attempt that failed costs its run, not the session.
        run.begin(2, inputs)
        run.session.run(outputs_of(run))


def test_keys_are_those_of_the_place_and_new(small):
    module, _, weights = small
    del weights
    task = Task(emit(module), "P0", "keys/")
    try:
        setup, online = keys_of(module, "P0", 0), keys_of(module, "P0", 1)
        with pytest.raises(MpccError, match="E-tf-run"):
            task.begin(1, online)
        with pytest.raises(MpccError, match=r"E-tf-keys: the key P0\+P2 was not given"):
            task.begin(0, {})
        with pytest.raises(MpccError, match="E-tf-keys: a key that the program does not use"):
            task.begin(0, {**setup, "P1+P2": bytes(16)})
        task.begin(0, setup)
        task.begin(1, online)
        with pytest.raises(MpccError, match=r"E-tf-keys: the key .* has served before"):
            task.begin(2, online)
        with pytest.raises(MpccError, match="E-tf-run"):
            task.begin(1, keys_of(module, "P0", 2))
        task.begin(2, keys_of(module, "P0", 2))
        with pytest.raises(MpccError, match="E-tf-usage: the place P0 is open"):
            Task(emit(module), "P0", "keys/")
    finally:
        task.close()


def test_a_graph_holds_no_key(small):
    module, _, _ = small
    graph = for_tensorflow(emit(module))
    for place in PLACES:
        for run in (0, 1):
            for key in keys_of(module, place, run).values():
                assert key not in graph


def test_a_process_runs_its_own_places_only(target, small):
    import tensorflow as tf

    module, inputs, weights = small
    with Run(module, weights, target) as run:
        run.tasks["P2"].close()
        for place in ("P0", "P1", "client", "model"):
            run.tasks[place].begin(1, keys_of(module, place, 1))
        del inputs
        everything = [op for op in run.graph.get_operations() if op.type.startswith("Mpcc")]
        with pytest.raises(tf.errors.OpError, match="E-tf-place: this process is not P2"):
            run.session.run(everything)


def test_the_graph_has_the_shapes(small):
    import tensorflow as tf

    module, _, _ = small
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(
            tf.compat.v1.GraphDef.FromString(for_tensorflow(emit(module))), name="model"
        )
    for index, op in enumerate(module.main.ops):
        for value, result in zip(
            op.results, graph.get_operation_by_name(f"model/n{index}").outputs, strict=True
        ):
            type_ = value.type
            wanted = type_.shape if isinstance(type_, RingType | ClearType) else (type_.nbytes,)
            assert tuple(result.shape) == wanted


def test_tensorflow_reads_what_tensorboard_is_given(tmp_path, small):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    module, _, _ = small
    path = tmp_path / "events.out.tfevents.1.mpcc"
    path.write_bytes(event_file(emit(module), 2.5))
    data = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()  # it checks the sums
    version, event = (event_pb2.Event.FromString(record) for record in data)
    assert version.file_version == "brain.Event:2"
    assert event.wall_time == 2.5
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(event.graph_def), name="")
    assert len(graph.get_operations()) == len(module.main.ops) + 1


def test_only_the_types_and_shapes_are_new(small):
    module, _, _ = small
    program = emit(module)
    graph, added = GraphDef.FromString(program), GraphDef.FromString(for_tensorflow(program))
    for node in [*added.node, *(n for f in added.library.function for n in f.node_def)]:
        for key in ("Tin", "Tout", "_output_shapes"):
            if key in node.attr:
                del node.attr[key]
    assert added == graph


class Parties:
    """Four endpoints over TLS, each with its part of a program and a local session of its own."""

    def __init__(self, module: Module, directory: Path, deadline: float) -> None:
        import tensorflow as tf

        os.chmod(directory, 0o700)
        issued = issue(directory, NAMES)
        hosted = {name: ("client", "model") if name == "owner" else (name,) for name in NAMES}
        listeners = [socket.create_server(("127.0.0.1", 0), backlog=8) for _ in range(3)]
        ports = [s.getsockname()[1] for s in listeners] + [0]
        endpoints = [
            {
                "name": name,
                "host": "127.0.0.1",
                "port": port,
                "places": hosted[name],
                "cert": issued[name].certificate.name,
                "key": issued[name].key.name,
            }
            for name, port in zip(NAMES, ports, strict=True)
        ]
        config = directory / "cluster.json"
        limits = {"deadline_s": deadline, "connect_deadline_s": 10.0}
        ca = issued["P0"].authority.name
        config.write_text(json.dumps({"endpoints": endpoints, "ca": ca, **limits}))
        data = emit(module)
        self.pool = ThreadPoolExecutor(len(NAMES))
        descriptors = [s.detach() for s in listeners] + [-1]

        def connect(index: int) -> Endpoint:
            name = NAMES[index]
            return Endpoint(
                data,
                config,
                index,
                hosted[name],
                scope=f"{name}/",
                listen_fd=descriptors[index],
            )

        self.endpoints = dict(zip(NAMES, self.pool.map(connect, range(len(NAMES))), strict=True))
        self.parts = {name: part_for_tensorflow(data, hosted[name]) for name in NAMES}
        self.sessions = {}
        for name, part in self.parts.items():
            graph = tf.Graph()
            with graph.as_default():
                tf.import_graph_def(tf.compat.v1.GraphDef.FromString(part.graph), name=name)
            self.sessions[name] = tf.compat.v1.Session(graph=graph, config=session_config(2))

    def run(self, number: int, without: str = "") -> dict[str, BaseException | None]:
        """One phase at all endpoints but one; what went wrong at each."""

        def one(name: str) -> None:
            self.endpoints[name].begin(number)
            part, session = self.parts[name], self.sessions[name]
            nodes = part.online if number else part.setup
            if name != without:
                session.run([session.graph.get_operation_by_name(f"{name}/{n}") for n in nodes])

        futures = {name: self.pool.submit(one, name) for name in NAMES}
        return {name: future.exception() for name, future in futures.items()}

    def close(self) -> None:
        for session in self.sessions.values():
            session.close()
        list(self.pool.map(lambda endpoint: endpoint.close(), self.endpoints.values()))
        self.pool.shutdown()


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    found = Parties(program(), tmp_path, 2.0)
    yield found
    found.close()


def failures(results: Mapping[str, BaseException | None]) -> dict[str, str]:
    return {name: str(error) for name, error in results.items() if error is not None}


def test_parties_with_sessions_of_their_own(parties):
    weights, inputs, expected = values()
    owner = parties.endpoints["owner"]
    owner.places["model"].give("w", weights["w"])
    assert failures(parties.run(0)) == {}
    for number in (1, 2):
        owner.places["client"].give("x", inputs["x"] / number)
        assert failures(parties.run(number)) == {}
        found = owner.places["client"].output("y", SHAPE)
        wanted = np.round(inputs["x"] / number * 256) / 256 + weights["w"].view(np.int64) / 256
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1 / 256)
        if number == 1:
            np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_party_that_stops_is_noticed_by_all(parties):
    weights, inputs, _ = values()
    owner = parties.endpoints["owner"]
    owner.places["model"].give("w", weights["w"])
    assert failures(parties.run(0)) == {}
    owner.places["client"].give("x", inputs["x"])
    found = failures(parties.run(1, without="P1"))
    assert found.keys() == {"P0", "P2", "owner"}
    for text in found.values():
        assert "E-net-timeout" in text or "E-net-aborted" in text


def test_a_session_needs_a_second_thread():
    with pytest.raises(MpccError, match="E-tf-usage"):
        session_config(1)


def test_a_part_holds_its_own_nodes_only():
    module = program()
    data = emit(module)
    transfers = {f"n{i}" for i, op in enumerate(module.main.ops) if op.name == "party.transfer"}
    seen: dict[str, list[str]] = {}
    for name in NAMES:
        places = ("client", "model") if name == "owner" else (name,)
        graph = GraphDef.FromString(part_for_tensorflow(data, places).graph)
        for node in graph.node[1:]:
            seen.setdefault(node.op, []).append(node.name)
    assert "MpccTransfer" not in seen
    assert sorted(seen["MpccReceive"]) == sorted(transfers)
    assert sorted(f"n{name[1:]}" for name in seen["MpccSend"]) == sorted(transfers)
    every = [name for op, names in seen.items() if op != "MpccSend" for name in names]
    assert sorted(every) == sorted(f"n{i}" for i in range(len(module.main.ops)))
