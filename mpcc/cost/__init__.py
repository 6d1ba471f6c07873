"""Predicted bytes, rounds and network time of a party program, and reports of them."""

from __future__ import annotations

from mpcc.cost.network import PROFILES, Link, Profile, profile
from mpcc.cost.predict import Cost, LayerCost, PhaseCost, Seconds, count
from mpcc.cost.report import Report, predict

__all__ = [
    "PROFILES",
    "Cost",
    "LayerCost",
    "Link",
    "PhaseCost",
    "Profile",
    "Report",
    "Seconds",
    "count",
    "predict",
    "profile",
]
