"""What the owner of an input does to it before it is shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_ids", "encoded", "one_hot"]

Array = npt.NDArray[Any]


def check_ids(ids: Array, rows: int) -> bool:
    """Whether all elements are whole numbers from -rows to rows - 1."""
    numbers = np.asarray(ids, np.float64)
    return bool(np.all((numbers == np.rint(numbers)) & (numbers >= -rows) & (numbers < rows)))


def one_hot(ids: Array, rows: int) -> Array:
    """Rows [..., rows] of zeros with a one, at the place that a number says.

    Args:
        ids: whole numbers; those from -rows to -1 count from the end.
        rows: places.

    Raises:
        ValueError: another number is among them.
    """
    if not check_ids(ids, rows):
        raise ValueError(f"not all numbers are whole ones from {-rows} to {rows - 1}")
    places = np.asarray(ids).astype(np.int64) % rows
    found = np.zeros((*places.shape, rows), np.float32)
    np.put_along_axis(found, places[..., None], 1, axis=-1)
    return found


def encoded(array: Array, port: Mapping[str, Any]) -> Array:
    """An input as the program takes it.

    Args:
        array: of the input.
        port: ``shape`` and, of one-hot rows, ``rows``: of ``secure.input`` or of a manifest.

    Returns:
        One-hot rows where the program takes these and numbers are given; else the array itself.

    Raises:
        ValueError: numbers have no such rows.
    """
    rows = port.get("rows", 0)
    if rows and np.shape(array) == tuple(port["shape"])[:-1]:
        return one_hot(array, rows)
    return array
