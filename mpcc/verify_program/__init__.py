"""The leak checker behind ``mpcc verify`` (``docs/leak-checker.md``)."""

from mpcc.verify_program.check import (
    Checked,
    check_program,
    compare_with_lowering,
    lower_again,
    verify_artifact,
)
from mpcc.verify_program.policy import Policy, declared_policy, load_policy
from mpcc.verify_program.report import Observer, Report

__all__ = [
    "Checked",
    "Observer",
    "Policy",
    "Report",
    "check_program",
    "compare_with_lowering",
    "declared_policy",
    "load_policy",
    "lower_again",
    "verify_artifact",
]
