"""Facts about a machine that a timing depends on; nothing that names the machine."""

from __future__ import annotations

import os
import platform
import re
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from mpcc.version import VERSION

__all__ = ["facts"]

#: Processor flags that the kernels and the ciphers make a difference of.
_FLAGS = (
    "aes",
    "pclmulqdq",
    "avx2",
    "bmi2",
    "vaes",
    "vpclmulqdq",
    "avx512f",
    "avx512bw",
    "avx512vbmi",
    "avx512_vnni",
    "amx_tile",
    "amx_int8",
)


def _processor() -> tuple[str, list[str]]:
    """Name and flags of the first processor; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor(), []
    fields = dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = set(fields.get("flags", "").split())
    return fields.get("model name", "").strip(), [f for f in _FLAGS if f in flags]


def _commit() -> str:
    """The sources' commit, with a ``+`` where files were changed since; empty outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + "+" * bool(commit and git("status", "--porcelain", "-uno"))
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    """JSON values: processor, cores, memory, versions, load, date (UTC)."""
    from mpcc import _native

    name, flags = _processor()
    return {
        "processor": name,
        "flags": flags,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "mpcc": VERSION,
        "commit": _commit(),
        "kernels": {k: v for k, v in _native.cpu_info().items() if isinstance(v, str)},
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
