"""What a TensorFlow Lite file holds, as plain data (schema version 3).

Numbers of fields and operators are those of TensorFlow's ``schema.fbs``; a test compares them with
the module that TensorFlow generates from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.frontend.importer import Array
from mpcc.frontend.tflite.flat import Bytes, MalformedError, Table, root

__all__ = ["KINDS", "OPERATORS", "Graph", "Model", "Operator", "Signature", "Tensor", "read"]

IDENTIFIER = b"TFL3"
VERSION = 3

MAX_PARTS = 1 << 17
"""Tensors, and operators, of a model."""

_MAX_RANK = 64

_NAMES = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
    RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
    CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
    SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
    CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
    SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
    ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
    LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
    WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
    REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
    BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT
"""

OPERATORS: tuple[str, ...] = tuple(_NAMES.split())
"""Names of operators by their numbers; those that follow are StableHLO's."""

_CUSTOM = OPERATORS.index("CUSTOM")

KINDS: Mapping[int, str] = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    13: "resource",
    14: "variant",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
    19: "int2",
    20: "uint4",
}
"""Types of elements."""

_NUMPY: Mapping[str, npt.DTypeLike] = {
    "float32": "<f4",
    "float16": "<f2",
    "float64": "<f8",
    "int32": "<i4",
    "uint8": "u1",
    "int64": "<i8",
    "bool": "?",
    "int16": "<i2",
    "int8": "i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        name: as in the file; may be empty, and need not be the only one.
        shape: -1 where a size is open; None if not even the number of axes is known.
        kind: of its elements, a value of :data:`KINDS`.
        data: bytes of a constant; None of what is computed.
        scale: of quantised numbers, one or one per slice along ``axis``; None of others.
        zero: the number that stands for 0, likewise.
        axis: see ``scale``.
        sparse: whether the data leave out zeros.
        variable: whether it keeps its value from run to run.
    """

    name: str
    shape: tuple[int, ...] | None
    kind: str
    data: Bytes | None = field(repr=False)
    scale: Array | None = field(repr=False)
    zero: Array | None = field(repr=False)
    axis: int
    sparse: bool
    variable: bool

    @property
    def quantised(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.scale is not None and "int" in self.kind

    def array(self) -> Array:
        """The value of a constant, quantised numbers as real ones.

        Raises:
            MalformedError: it has not the bytes of its shape.
        """
        if self.data is None or self.shape is None or self.kind not in _NUMPY or self.sparse:
            raise MalformedError(
                f"the constant {self.name} is of {self.kind}, or has no dense data"
            )
        dtype = np.dtype(_NUMPY[self.kind])
        count = math.prod(self.shape)
        if min(self.shape, default=0) < 0 or count * dtype.itemsize != len(self.data):
            raise MalformedError(
                f"the constant {self.name} has {len(self.data)} bytes, which are no {self.kind} of "
                f"shape {list(self.shape)}"
            )
        if dtype == np.bool_:
            # A byte that is neither 0 nor 1 is no truth value to numpy.
            return (np.frombuffer(self.data, "u1") != 0).reshape(self.shape)
        found: Array = np.frombuffer(self.data, dtype).reshape(self.shape)
        return self._real(found) if self.quantised else found

    def _real(self, found: Array) -> Array:
        assert self.scale is not None
        zero = np.zeros(1, np.int64) if self.zero is None else self.zero
        sizes = {len(self.scale), len(zero)} - {1}
        wide = [1] * found.ndim
        if sizes:
            if not 0 <= self.axis < found.ndim or sizes != {found.shape[self.axis]}:
                raise MalformedError(f"the scales of {self.name} do not fit its shape")
            wide[self.axis] = found.shape[self.axis]
        scale, offset = (
            a.reshape(wide) if len(a) > 1 else a.reshape([1] * found.ndim)
            for a in (self.scale, zero)
        )
        return np.asarray((found.astype(np.float64) - offset) * scale, np.float32)


@dataclass(frozen=True)
class Operator:
    """A node of a graph.

    Attributes:
        name: of :data:`OPERATORS`; ``CUSTOM name`` of one that is not TensorFlow Lite's own.
        inputs: numbers of tensors; -1 for one that is left out.
        outputs: likewise.
        form: number of the kind of its options, 0 if it has none.
        options: its options; None if it has none.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    form: int
    options: Table | None = field(repr=False)


@dataclass(frozen=True)
class Graph:
    """A function of the model; the first one is the model itself."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """A named way to call a graph: tensors by the names of arguments and results."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    graph: int


@dataclass(frozen=True)
class Model:
    """A whole file."""

    graphs: tuple[Graph, ...]
    signatures: tuple[Signature, ...]


def read(data: bytes, where: str) -> Model:
    """Read a file.

    Args:
        data: its bytes.
        where: for errors.

    Raises:
        MpccError: ``E-model-invalid``; it is damaged, or of another version of the format.
    """
    try:
        return _Reader(root(data, IDENTIFIER)).model()
    except MalformedError as error:
        raise MpccError.of(
            "E-model-invalid",
            f"this is no TensorFlow Lite model that can be read: {error}",
            where,
            "copy or convert the model again",
        ) from error


class _Reader:
    """Reads one file; what several parts refer to is read once."""

    def __init__(self, model: Table) -> None:
        self._model = model
        version = model.integer(0, "I")
        if version != VERSION:
            raise MalformedError(f"it is of version {version} of the format, not {VERSION}")
        self._left = MAX_PARTS
        self._names = [self._name(code) for code in self._counted(model.tables(1))]
        self._buffers = self._counted(model.tables(4))

    def _counted(self, tables: list[Table]) -> list[Table]:
        self._left -= len(tables)
        if self._left < 0:
            raise MalformedError(f"it has more than {MAX_PARTS} parts")
        return tables

    @staticmethod
    def _name(code: Table) -> str:
        # Numbers above 127 have a field of their own; older files know only the first.
        number = max(code.integer(0, "b"), code.integer(3))
        if number == _CUSTOM:
            return f"CUSTOM {code.text(1)}"
        return OPERATORS[number] if 0 <= number < len(OPERATORS) else f"operator number {number}"

    def model(self) -> Model:
        graphs = tuple(self._graph(g) for g in self._counted(self._model.tables(2)))
        if not graphs or not graphs[0].operators:
            raise MalformedError("it has nothing to compute")
        found = []
        for each in self._counted(self._model.tables(7)):
            number = each.integer(4, "I")
            if number >= len(graphs):
                raise MalformedError("a signature of a graph that does not exist")
            count = len(graphs[number].tensors)
            inputs, outputs = (
                {
                    t.text(0): _within(t.integer(1, "I"), count)
                    for t in self._counted(each.tables(i))
                }
                for i in (0, 1)
            )
            found.append(Signature(each.text(2), inputs, outputs, number))
        return Model(graphs, tuple(found))

    def _graph(self, graph: Table) -> Graph:
        tensors = tuple(self._tensor(t) for t in self._counted(graph.tables(0)))
        count = len(tensors)
        return Graph(
            tensors,
            tuple(_within(i, count) for i in graph.integers(1)),
            tuple(_within(i, count) for i in graph.integers(2)),
            tuple(self._operator(o, count) for o in self._counted(graph.tables(3))),
        )

    def _operator(self, operator: Table, tensors: int) -> Operator:
        inputs, outputs = operator.integers(1), operator.integers(2)
        return Operator(
            self._names[_within(operator.integer(0, "I"), len(self._names))],
            tuple(i if i == -1 else _within(i, tensors) for i in inputs),
            tuple(_within(i, tensors) for i in outputs),
            operator.integer(3, "B"),
            operator.table(4),
        )

    def _tensor(self, tensor: Table) -> Tensor:
        shape, signature = tensor.integers(0), tensor.integers(7)
        number = tensor.integer(1, "b")
        if number not in KINDS:
            raise MalformedError(f"elements of the unknown type {number}")
        if len(shape) > _MAX_RANK:
            raise MalformedError(f"a tensor of {len(shape)} axes")
        sizes: tuple[int, ...] | None = signature if len(signature) == len(shape) else shape
        data = self._data(_within(tensor.integer(2, "I"), len(self._buffers)))
        if not shape and data is None and not tensor.integer(8, "?"):
            sizes = None
        scale = zero = None
        axis = 0
        how = tensor.table(4)
        if how is not None:
            scale, zero = how.numbers(2, "f"), how.numbers(3, "q")
            axis = how.integer(6)
            scale = None if scale is None or not len(scale) else scale
            zero = None if zero is None or not len(zero) else zero
        return Tensor(
            tensor.text(3),
            sizes,
            KINDS[number],
            data,
            scale,
            zero,
            axis,
            tensor.table(6) is not None,
            bool(tensor.integer(5, "?")),
        )

    def _data(self, number: int) -> Bytes | None:
        """Bytes of a buffer; None of the many that are empty."""
        buffer = self._buffers[number]
        # Models of 2 GB and more have them behind the tables.
        begin, count = buffer.integer(1, "Q"), buffer.integer(2, "Q")
        found = buffer.part(begin, count) if begin > 1 and count else buffer.data(0)
        return found if found is not None and len(found) else None


def _within(number: int, count: int) -> int:
    """A position in a list.

    Raises:
        MalformedError: it is none.
    """
    if not 0 <= number < count:
        raise MalformedError(f"a reference to number {number} of {count}")
    return number
