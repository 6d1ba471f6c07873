"""The native engine as Python sees it: the extension, the party program, what they can do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from mpcc.errors import MpccError

__all__ = ["checks", "engine", "party_program", "translate"]

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


def translate(error: Exception, doing: str) -> MpccError:
    """A ``NativeError(code, message, where)`` of the extension as a user error."""
    code, message, where = (*(str(a) for a in error.args), "", "", "")[:3]
    return MpccError.of(code, message, where or doing)


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
    rows.append(("AES instructions", "aes" in info["features"], True, "needed by the PRG"))
    try:
        program = party_program()
        found = subprocess.run(
            [program, "--help"], capture_output=True, timeout=10, check=False
        ).returncode
        rows.append(("mpcc-party", found == 0, True, str(program)))
    except (MpccError, OSError, subprocess.TimeoutExpired) as error:
        rows.append(("mpcc-party", False, True, str(error)))
    return rows
