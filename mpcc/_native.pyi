"""Types of the native module, which runtime_native/python/module.cc defines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

class NativeError(RuntimeError):
    """An error of the native engine; ``args`` are (code, message, where)."""

def run_in_memory(
    program: bytes,
    weights: Mapping[str, npt.NDArray[Any]],
    inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]],
    seed: int | None = None,
    *,
    threads: int = 1,
    deadline: float = 10.0,
    network: str = "none",
    max_memory: int | None = None,
    max_work: int | None = None,
    ahead_bytes: int | None = None,
) -> tuple[list[dict[str, npt.NDArray[np.float32]]], str]: ...
def evaluate_op(
    program: bytes,
    index: int,
    operands: Sequence[bytes],
    keys: Mapping[str, bytes],
    isa: str = "",
    threads: int = 1,
) -> list[bytes]: ...
def memory_use() -> tuple[int, int]: ...
def describe_program(program: bytes, threads: int = 1) -> dict[str, Any]: ...
def artifact_program(path: str) -> bytes: ...
def cpu_info() -> dict[str, Any]: ...

class OwnerEndpoint:
    def __init__(self, program: bytes, config: str, index: int = 3) -> None: ...
    def setup(self, weights: Mapping[str, npt.NDArray[Any]]) -> None: ...
    def run(
        self, inputs: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[str, npt.NDArray[np.float32]]: ...
    def statistics(self) -> str: ...
    def close(self) -> None: ...
