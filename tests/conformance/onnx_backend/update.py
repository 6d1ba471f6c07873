"""Writes ``exclusions.toml`` anew after operators were added.

``python -m tests.conformance.onnx_backend.update`` attempts every case, puts those that fail under
the first reason that explains their message, and raises the minimum. What no reason explains is
shown and left out, so that the test goes on failing until it is mended or a reason is written down.
"""

from __future__ import annotations

import json
import sys
import textwrap

from tests.conformance.onnx_backend import suite
from tests.conformance.onnx_backend.exclusions import FILE, groups, minimum

HEADER = """\
# Cases of ONNX's backend suite that count (docs/models.md) and do not pass, by reason. Every case
# is attempted: it must fail with a message that has one of the signs.
# python -m tests.conformance.onnx_backend.update sorts the cases anew.
"""


def main() -> int:
    """Rewrite the file; the exit code is 1 if something is unexplained."""
    known = groups()
    sorted_in: dict[str, list[str]] = {why.code: [] for why, _ in known}
    unexplained: list[str] = []
    for name, case in suite.cases().items():
        try:
            message = suite.attempt(case)
        except Exception as error:
            unexplained.append(f"{name} breaks the compiler: {error!r}")
            continue
        if not message:
            continue
        code = next((why.code for why, _ in known if why.explains(message)), None)
        if code is None:
            unexplained.append(f"{name}: {message}")
        else:
            sorted_in[code].append(name)
    failed = len(unexplained) + sum(map(len, sorted_in.values()))
    passed = len(suite.cases()) - failed
    parts = [HEADER, f"minimum = {max(passed, minimum())}\n"]
    for why, _ in known:
        lines = textwrap.wrap(", ".join(json.dumps(n) for n in sorted_in[why.code]), 96)
        parts.append(
            f"\n[[group]]\ncode = {json.dumps(why.code)}\ntext = {json.dumps(why.text)}\n"
            f"signs = {json.dumps(why.signs)}\ncases = [\n"
            + "".join(f"  {line}\n" for line in lines)
            + "]\n"
        )
    FILE.write_text("".join(parts), "utf-8")
    sys.stderr.write("".join(f"{text}\n" for text in unexplained))
    sys.stderr.write(f"{passed} passed, {failed} failed, {len(unexplained)} unexplained\n")
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
