"""Names everything that the build needs from the system and does not find, at once.

Standard library only, and syntax that Python 3.7 reads, because this runs before anything is
installed and should also tell the owner of an old Python. Exit code 0: all there. 1: something is
missing; one line says what, one line how to get it. With ``--install``, as root on a Debian-like
system, the missing packages are installed first.

With ``--browser`` it looks for a browser instead, which tests of pages use: with ``--install`` one
is installed where that is possible, and where it is not nothing fails.

CMake and Ninja are not looked for: they come from the Python package index with the other build
tools.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import NamedTuple

MINIMUM_PYTHON = (3, 10)
MINIMUM_GCC = 11

#: Debian package -> header that shows it is there.
HEADERS = {
    "libssl-dev": "openssl/ssl.h",
    "libasio-dev": "asio.hpp",
    "libprotozero-dev": "protozero/pbf_reader.hpp",
    "nlohmann-json3-dev": "nlohmann/json.hpp",
    "libzip-dev": "zip.h",
    "libcli11-dev": "CLI/CLI.hpp",
    "doctest-dev": "doctest/doctest.h",
}

#: Programs that tests of pages can use, in order of preference.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: Debian packages that bring one; the first is the smaller one, and not everywhere.
BROWSER_PACKAGES = ("chromium-headless-shell", "chromium")


class Missing(NamedTuple):
    """One missing thing.

    Attributes:
        what: what a person would call it.
        package: the Debian package that brings it; empty if none does.
    """

    what: str
    package: str


def compiler() -> str | None:
    """The C++ compiler that CMake would take: ``$CXX``, ``c++`` or ``g++``."""
    names = [os.environ.get("CXX", ""), "c++", "g++"]
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


def missing_headers(cxx: str | None) -> list[str]:
    """Packages whose header the compiler does not find; without one the usual folders count."""
    if cxx is None:
        roots = ["/usr/include", "/usr/local/include"]
        return [p for p, h in HEADERS.items() if not any(os.path.exists(f"{r}/{h}") for r in roots)]
    source = "".join(
        f"#if !__has_include(<{header}>)\nmissing:{package}\n#endif\n"
        for package, header in HEADERS.items()
    )
    result = subprocess.run(
        [cxx, "-E", "-P", "-x", "c++", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        return list(HEADERS)
    found = {line.strip() for line in result.stdout.splitlines()}
    return [package for package in HEADERS if f"missing:{package}" in found]


def gcc_major(cxx: str) -> int | None:
    """The major version if this is gcc, else None (another compiler: CMake will judge it)."""
    source = "#if defined(__GNUC__) && !defined(__clang__)\n__GNUC__\n#endif\n"
    result = subprocess.run(
        [cxx, "-E", "-P", "-x", "c++", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    text = result.stdout.strip()
    return int(text) if text.isdigit() else None


def find_missing() -> list[Missing]:
    """Everything that is missing, in the order in which the build would stumble over it."""
    missing = []
    if sys.version_info < MINIMUM_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        missing.append(
            Missing(f"Python >= 3.10 (this is {have}; set PYTHON=... for another one)", "")
        )
    if shutil.which("make") is None:
        missing.append(Missing("make", "make"))
    cxx = compiler()
    if cxx is None:
        missing.append(Missing("a C++20 compiler", "g++"))
    else:
        major = gcc_major(cxx)
        if major is not None and major < MINIMUM_GCC:
            missing.append(Missing(f"g++ >= {MINIMUM_GCC} (this is {major})", "g++"))
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(Missing("python3-venv", "python3-venv"))
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        missing.append(Missing("python3-dev", "python3-dev"))
    missing.extend(Missing(package, package) for package in missing_headers(cxx))
    return missing


def install(packages: list[str]) -> bool:
    """Installs Debian packages without questions; prints apt's own words when it fails."""
    # A bare PATH may lack the sbin folders, without which dpkg refuses to work.
    environment: dict[str, str] = dict(os.environ)
    environment["PATH"] = environment.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    update = ["apt-get", "update", "-qq"]
    get = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    # Stale lists name files that are gone, so a failure is worth one try with new ones.
    steps = [get, update, get] if glob.glob("/var/lib/apt/lists/*_Packages*") else [update, get]
    print("system packages: installing " + " ".join(packages), flush=True)
    text = ""
    for step in steps:
        result = subprocess.run(
            step,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        text += f"$ {' '.join(step)}\n{result.stdout}"
        if step is get and result.returncode == 0:
            return True
    print(text, file=sys.stderr)
    return False


def browser() -> str | None:
    """The path of a browser for tests, if there is one."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def ensure_browser(may_install: bool) -> None:
    """Installs a browser if there is none; says so where it cannot."""
    for package in BROWSER_PACKAGES:
        if browser() is None and may_install:
            install([package])
    if browser() is None:
        print("no browser: tests of pages are left out (apt-get install chromium)")


def report(missing: list[Missing]) -> None:
    """Prints one line that names everything missing and, where apt can help, the line that does."""
    print("missing: " + ", ".join(m.what for m in missing), file=sys.stderr)
    packages = [m.package for m in missing if m.package]
    if packages:
        print(
            "on Debian or Ubuntu: sudo apt-get install " + " ".join(packages),
            file=sys.stderr,
        )


def main(argv: list[str] | None = None) -> int:
    """Checks, installs where asked to and possible, checks again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--install",
        action="store_true",
        help="as root on a Debian-like system, install what is missing",
    )
    parser.add_argument(
        "--browser", action="store_true", help="look for a browser, for the tests; never fails"
    )
    options = parser.parse_args(argv)
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if options.browser:
        ensure_browser(options.install and may_install)
        return 0
    missing = find_missing()
    packages = [m.package for m in missing if m.package]
    if options.install and packages and may_install and install(packages):
        missing = find_missing()
    if missing:
        report(missing)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
