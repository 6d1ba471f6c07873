"""What a program tells whom: `mpcc verify`, and the check before a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mpcc.api.data import PathLike
from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError
from mpcc.version import VERSION

if TYPE_CHECKING:
    from mpcc.verify_program import Report

__all__ = ["refuse_unverified", "verify"]


def verify(artifact: Artifact, policy: PathLike | None = None) -> Report:
    """Check that a program tells nobody anything but the outputs to their owners.

    Args:
        artifact: the program.
        policy: TOML that says who owns outputs and inputs, what is public and who may conspire
            (docs/leak-checker.md); as the artifact declares without one.

    Raises:
        MpccError: the policy cannot be read, or speaks of another program. What the program leaks
            is no error but in the report.
    """
    # The checker imports every pass, for programs are lowered again.
    from mpcc.verify_program import declared_policy, load_policy, verify_artifact

    chosen = None
    if policy is not None:
        chosen = load_policy(Path(policy), declared_policy(artifact.secure_module))
    return verify_artifact(artifact, chosen)


def refuse_unverified(artifact: Artifact) -> None:
    """Refuse a program that tells somebody more than the outputs to their owners.

    Raises:
        MpccError: ``E-run-unverified``, and what the leak checker found.
    """
    report = verify(artifact)
    if not report.accepted:
        raise MpccError(
            Diagnostic(
                "E-run-unverified",
                "the program leaks, or is not what its secure form says",
                "program.pb",
                f"compile the model again: this is mpcc {VERSION}, the program was made by mpcc "
                f"{artifact.compiler_version}",
            ),
            *report.all_problems,
        )
