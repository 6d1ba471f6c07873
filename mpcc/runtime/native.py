"""The native engine as Python sees it: the extension, the party program, what they can do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from mpcc.errors import MpccError

__all__ = ["blame", "checks", "engine", "party_program", "reported", "translate"]

_FIX = "install mpcc with a C++ compiler present; `mpcc doctor` shows what is missing"


def engine() -> Any:
    """The extension module ``mpcc._native``.

    Raises:
        MpccError: it was not built or cannot be loaded here.
    """
    try:
        from mpcc import _native
    except ImportError as error:
        raise MpccError.of(
            "E-native-missing", f"the native engine cannot be loaded ({error})", fix=_FIX
        ) from None
    return _native


def party_program() -> Path:
    """The executable that runs one party without Python.

    Raises:
        MpccError: it is not installed beside the extension.
    """
    program = Path(engine().__file__).parent / "_bin" / "mpcc-party"
    if not program.is_file():
        raise MpccError.of("E-native-missing", "the program mpcc-party is absent", "", _FIX)
    return program


_LIMIT_FLAGS = {"E-limit-memory": "--max-memory", "E-limit-work": "--max-work"}
_LIMIT_FIX = "raise the limit ({flag}) if you trust whoever made the program"


def blame(text: str) -> tuple[str, str] | None:
    """(party, step) that an error of the engine is about, from its text.

    Errors that concern a peer or a step end in ``{party=P1, step=run 3, message 17 (conv)}``;
    where one was passed on, the first is the cause.
    """
    found = re.search(r"\{party=([^,{}]*), step=([^{}]*)\}", text)
    return None if found is None else (found[1], found[2])


def reported(failure: dict[str, str]) -> MpccError:
    """The error of a party (:meth:`mpcc.runtime.party.Party.failure`) as a user error."""
    code = failure.get("code", "E-party-failed")
    fix = ""
    if code in _LIMIT_FLAGS:
        fix = _LIMIT_FIX.format(flag=_LIMIT_FLAGS[code])
    return MpccError.of(code, failure.get("message", ""), failure.get("where", ""), fix)


def translate(error: Exception, doing: str) -> MpccError:
    """A ``NativeError(code, message, where)`` of the extension as a user error."""
    code, message, where = (*(str(a) for a in error.args), "", "", "")[:3]
    return reported({"code": code, "message": message, "where": where or doing})


def checks() -> list[tuple[str, bool, bool, str]]:
    """(name, present, required, detail) of the native parts, for ``mpcc doctor``."""
    rows: list[tuple[str, bool, bool, str]] = []
    try:
        info = engine().cpu_info()
    except MpccError as error:
        return [("native engine", False, True, error.diagnostics[0].what)]
    kernels = ", ".join(f"{k} {info[k]}" for k in ("block", "gemm", "prg"))
    rows.append(("native engine", True, True, f"kernels: {kernels}"))
    rows.append(("instruction sets", True, True, f"{info['features']} (chosen: {info['isa']})"))
    detail = f"PRG: {info['prg']}; without them it is bit-sliced, some 40 times slower"
    rows.append(("AES instructions", "aes" in info["features"], False, detail))
    try:
        program = party_program()
        found = subprocess.run(
            [program, "--help"], capture_output=True, timeout=10, check=False
        ).returncode
        rows.append(("mpcc-party", found == 0, True, str(program)))
    except (MpccError, OSError, subprocess.TimeoutExpired) as error:
        rows.append(("mpcc-party", False, True, str(error)))
    return rows
