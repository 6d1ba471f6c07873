"""One party as a process of this machine: started, watched, stopped."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from mpcc.errors import MpccError
from mpcc.runtime import native

__all__ = ["Party"]

_GRACE = 5.0


class Party:
    """A running ``mpcc-party``.

    The listening socket is made here and inherited, so that no other process can take the port
    between choosing and using it.

    Args:
        name: the endpoint's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        # Files, not pipes: a party must never wait for somebody to read what it says.
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def start(self, artifact: Path, cluster: Path, index: int) -> None:
        """Start the process.

        Args:
            artifact: path of the compiled program.
            cluster: path of the cluster file.
            index: of this party in the cluster.

        Raises:
            MpccError: the program is missing or cannot be started.
        """
        if self._listener is None:
            raise MpccError.of("E-party-start", "it was started before", self.name)
        descriptor = self._listener.fileno()
        command = [
            str(native.party_program()),
            f"--artifact={artifact}",
            f"--config={cluster}",
            f"--index={index}",
            f"--listen-fd={descriptor}",
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._errors,
                pass_fds=(descriptor,),
                # Ctrl-C reaches the owner, which ends the session in order.
                start_new_session=True,
            )
        except OSError as error:
            raise MpccError.of("E-party-start", str(error), self.name) from None
        finally:
            self._listener.close()
            self._listener = None

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while it runs or before the start."""
        return None if self._process is None else self._process.poll()

    def _said(self) -> list[str]:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().splitlines()

    def complaint(self) -> str:
        """The last sentence that it wrote to stderr, empty if none."""
        sentences = [line for line in self._said() if not line.startswith("{")]
        return sentences[-1] if sentences else ""

    def failure(self) -> dict[str, str]:
        """Its error as ``code``, ``message``, ``where``, ``reporter``, ``party`` and ``step``.

        The party is the endpoint that the failure is about, the reporter this one. Empty if it
        did not fail or did not come to say so.
        """
        for line in reversed(self._said()):
            try:
                found = json.loads(line)["error"]
                return {str(key): str(value) for key, value in found.items()}
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
        return {}

    def limit_exceeded(self) -> bool:
        """Whether it refused the program for a limit (``E-limit-…``)."""
        return self.failure().get("code", "").startswith("E-limit-")

    def statistics(self) -> dict[str, Any]:
        """What it reported when it ended well; empty otherwise."""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        try:
            return dict(json.loads(lines[-1])) if lines else {}
        except (ValueError, TypeError):
            return {}

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by itself within ``seconds``."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it if it still runs, and release what it holds. Idempotent."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._process is not None and not self.wait(0):
            self._process.terminate()
            # A process that is paused heeds nothing but this.
            self._process.send_signal(signal.SIGCONT)
            if not self.wait(_GRACE):
                self._process.kill()
                self._process.wait()
        self._output.close()
        self._errors.close()

    def __repr__(self) -> str:
        state = "not started" if self._process is None else f"pid {self.pid}"
        return f"<Party {self.name}, {state}>"
