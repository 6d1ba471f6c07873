"""Traces of the endpoints of one session as one file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["merge"]


def merge(files: Iterable[Path]) -> str:
    """One trace out of the endpoints' own, with times in microseconds since the first event.

    The endpoints of a session on one machine read the same clock. A file that cannot be read (its
    endpoint was killed while it wrote) is left out.

    Args:
        files: what ``runtime_native/graph/trace.h`` writes.
    """
    events: list[dict[str, Any]] = []
    left_out = 0
    for path in sorted(files):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        events += one["traceEvents"]
        left_out += one["otherData"]["events_left_out"]
    start = min((e["ts"] for e in events if "ts" in e), default=0.0)
    for event in events:
        if "ts" in event:
            event["ts"] = round(event["ts"] - start, 3)
    return json.dumps(
        {
            "displayTimeUnit": "ms",
            "otherData": {"events_left_out": left_out},
            "traceEvents": events,
        }
    )
