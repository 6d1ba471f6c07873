"""Stock TensorFlow as an engine: the op library, and what each place's process gives it.

A process that takes part opens a :class:`Task` for its place: it holds the program and the keys,
which never stand in a graph. TensorFlow then imports the graph of
:func:`mpcc.emit.tensorflow.for_tensorflow`, and the ops find their task by the scope of their node
and the place of their op. A node, a fused body or a stream that is not the program's is refused.

One run of the graph belongs to one :meth:`Task.begin` at every place; a second is refused, because
it would use masks again. ``docs/tensorflow.md`` says what this form protects and what it does not.
"""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.runtime.exposure import check_addresses, check_listening, check_preloaded
from mpcc.runtime.native import engine

__all__ = ["Endpoint", "Task", "load", "op_library", "session_config", "start_servers"]

Array = npt.NDArray[Any]

_ERROR_BYTES = 4096


def op_library() -> Path:
    """The file of TensorFlow's ops.

    Raises:
        MpccError: ``E-native-missing``: it is not installed beside the extension.
    """
    path = Path(engine().__file__).parent / "_bin" / "libmpcc_tf.so"
    if not path.is_file():
        raise MpccError.of("E-native-missing", "the op library libmpcc_tf.so is absent")
    return path


def _fail(text: str) -> MpccError:
    code, _, what = text.partition(": ")
    return MpccError.of(code, what) if code.startswith("E-") else MpccError.of("E-tf", text)


@functools.cache
def load() -> Any:
    """Make TensorFlow load the op library, once per process; the functions of ``tf/library.h``.

    Raises:
        MpccError: ``E-tf-missing`` without TensorFlow, ``E-tf-version`` for one that is too old.
    """
    path = op_library()
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MpccError.of(
            "E-tf-missing",
            f"TensorFlow cannot be loaded ({error})",
            fix="pip install mpcc[tensorflow]",
        ) from None
    tf.load_library(str(path))
    library = ctypes.CDLL(str(path))
    _call(library.mpcc_tf_loaded)
    return library


def session_config(threads: int = 0) -> Any:
    """A ``ConfigProto`` for a session that runs a program or a part of one.

    No optimiser touches the graph.

    Args:
        threads: of a session that runs a part: ops that may run at once, 2 or more, since one that
            waits for a message holds a thread. 0 leaves the threads to TensorFlow, which a
            distributed session needs.

    Raises:
        MpccError: ``E-tf-usage`` for one thread; as :func:`load`.
    """
    if threads < 0 or threads == 1:
        raise MpccError.of(
            "E-tf-usage", f"a session of {threads} threads stops at the first message"
        )
    load()
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    if threads:
        config.use_per_session_threads = True
        config.inter_op_parallelism_threads = threads
    return config


def start_servers(
    jobs: Mapping[str, Sequence[str]],
    tasks: Sequence[tuple[str, int]],
    private_networks: Collection[str] = (),
) -> list[Any]:
    """Servers of TensorFlow's distributed runtime for some tasks of a cluster, in this process.

    What they protect is :data:`mpcc.runtime.exposure.PROTECTION`: nothing. Whoever calls this says
    so to the user. They listen at every address of the machine, unless libmpcc_loopback.so was
    preloaded; without a declared network that is refused.

    Args:
        jobs: ``host:port`` of every task by job, as of ``tf.train.ClusterSpec``.
        tasks: (job, index) of this process.
        private_networks: such as ``10.1.0.0/16``: on which nobody is but the parties' machines.

    Raises:
        MpccError: ``E-tf-exposed``: an address outside of loopback and these networks, or a server
            that others can reach although none was declared; as :func:`load`.
    """
    check_addresses(jobs, private_networks)
    if not private_networks:
        check_preloaded()
    load()
    import tensorflow as tf

    spec = tf.train.ClusterSpec(dict(jobs))
    servers = [
        tf.distribute.Server(spec, job_name=job, task_index=task, config=session_config())
        for job, task in tasks
    ]
    if not private_networks:
        check_listening()
    return servers


def _call(function: Any, *args: Any) -> None:
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    if function(*args, error, ctypes.c_size_t(_ERROR_BYTES)) != 0:
        raise _fail(error.value.decode("utf-8", "replace"))


class _Place:
    """What is given to one place of a program in this process, and taken from it."""

    def __init__(self, place: str, scope: str) -> None:
        self._library = load()
        self._at = (scope.encode(), place.encode())

    def give(self, name: str, array: Array) -> None:
        """An input (float32) of the next run, or a weight (ring words) before the setup.

        Raises:
            MpccError: ``E-tf-tensor``: not of this place, or of another size.
        """
        data = np.ascontiguousarray(array).tobytes()
        size = ctypes.c_size_t(len(data))
        _call(self._library.mpcc_tf_give, *self._at, name.encode(), data, size)

    def output(self, name: str, shape: tuple[int, ...]) -> Array:
        """An output of the current run, at the place that it is opened to.

        Raises:
            MpccError: ``E-tf-output``: it is not there, or has another size.
        """
        result = np.empty(shape, np.float32)
        _call(
            self._library.mpcc_tf_output,
            *self._at,
            name.encode(),
            result.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(result.nbytes),
        )
        return result


class Task(_Place):
    """What one place of a program has in this process; open until :meth:`close`.

    Args:
        program: bytes of the program, without calls.
        place: ``P0``, ``P1``, ``P2``, ``client`` or ``model``.
        scope: what stands before the names of the graph's nodes, ending in ``/``; or nothing.

    Raises:
        MpccError: ``E-graph...`` for a program that is not one, ``E-tf-calls`` for one with calls,
            ``E-tf-usage`` when the place is open already.
    """

    def __init__(self, program: bytes, place: str, scope: str = "") -> None:
        super().__init__(place, scope)
        _call(self._library.mpcc_tf_open, *self._at, program, ctypes.c_size_t(len(program)))

    def begin(self, run: int, keys: Mapping[str, bytes]) -> None:
        """Start the setup (run 0) or a run.

        Args:
            run: larger than every one before.
            keys: 16 bytes by holder set, of exactly the sets that the place is in and that the
                program draws from in this phase.

        Raises:
            MpccError: ``E-tf-run``, ``E-tf-keys``.
        """
        if any(len(key) != 16 for key in keys.values()):
            raise MpccError.of("E-tf-keys", "a key has 16 bytes")
        names = b"".join(name.encode() + b"\0" for name in keys)
        _call(
            self._library.mpcc_tf_begin,
            *self._at,
            ctypes.c_uint64(run),
            names,
            b"".join(keys.values()),
            ctypes.c_size_t(len(keys)),
        )

    def close(self) -> None:
        """Forget program and keys; kernels of graphs that still run refuse to go on."""
        self._library.mpcc_tf_close(*self._at)


class Endpoint:
    """All places of one endpoint, connected to its peers over TLS; open until :meth:`close`.

    Each endpoint runs its part of the program (:func:`mpcc.emit.tensorflow.part_for_tensorflow`) in
    a TensorFlow session of its own; no other process can read a tensor of it.

    Args:
        program: bytes of the program, without calls.
        config: the cluster's file, as for ``mpcc-party``.
        index: of the endpoint in it.
        places: that it hosts.
        scope: as of a :class:`Task`.
        listen_fd: a listening socket of its port; -1 to open one.
        keys_only: whether the connections serve to agree on keys alone, as at a server of a
            distributed session, where messages are TensorFlow's edges.

    Raises:
        MpccError: ``E-config``, ``E-net...``, ``E-graph...``, ``E-limit...``.
    """

    def __init__(
        self,
        program: bytes,
        config: Path,
        index: int,
        places: Sequence[str],
        *,
        scope: str = "",
        listen_fd: int = -1,
        keys_only: bool = False,
    ) -> None:
        self._library = load()
        self._at = (scope.encode(), places[0].encode())
        _call(
            self._library.mpcc_tf_connect,
            scope.encode(),
            program,
            ctypes.c_size_t(len(program)),
            str(config).encode(),
            ctypes.c_uint32(index),
            ctypes.c_int(listen_fd),
            ctypes.c_int(keys_only),
        )
        self.places = {place: _Place(place, scope) for place in places}

    def begin(self, run: int) -> None:
        """Start the setup (run 0) or a run; waits until the keys are agreed on with the peers.

        Raises:
            MpccError: ``E-tf-run``, ``E-net...``.
        """
        _call(self._library.mpcc_tf_begin_run, *self._at, ctypes.c_uint64(run))

    def check(self) -> None:
        """Notice a session that is over although nothing waits for a message.

        Raises:
            MpccError: ``E-net...``: what has ended it, with the party and the step.
        """
        _call(self._library.mpcc_tf_check, *self._at)

    def statistics(self) -> dict[str, Any]:
        """What it has sent: ``payload_bytes_sent`` by peer's name, ``wire_bytes_sent``."""
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        _call(self._library.mpcc_tf_statistics, *self._at, text, ctypes.c_size_t(_ERROR_BYTES))
        return dict(json.loads(text.value))

    def close(self) -> None:
        """End the session with the peers and forget program and keys."""
        self._library.mpcc_tf_disconnect(*self._at)
