"""Predicted bytes, rounds and time of a party program, and reports of them."""

from __future__ import annotations

from mpcc.cost.difference import Difference, compare
from mpcc.cost.network import PROFILES, Link, Profile, profile
from mpcc.cost.predict import Cost, LayerCost, PhaseCost, Seconds, count
from mpcc.cost.report import Report, format_bytes, format_seconds, predict
from mpcc.cost.speed import BUILT_IN, Speeds
from mpcc.cost.timeline import Timeline, Workload, timeline
from mpcc.cost.work import UNITS

__all__ = [
    "BUILT_IN",
    "PROFILES",
    "UNITS",
    "Cost",
    "Difference",
    "LayerCost",
    "Link",
    "PhaseCost",
    "Profile",
    "Report",
    "Seconds",
    "Speeds",
    "Timeline",
    "Workload",
    "compare",
    "count",
    "format_bytes",
    "format_seconds",
    "predict",
    "profile",
    "timeline",
]
