"""Reports for people: the cost as a tree in the terminal and as a page, the program as a page."""

from __future__ import annotations

from mpcc.reports.cost_page import cost_page
from mpcc.reports.decisions import Decision, decisions
from mpcc.reports.measured import traced_layers
from mpcc.reports.owner_tables import agreement_lines, owner_tables
from mpcc.reports.private import Owner
from mpcc.reports.program_page import Level, program_page
from mpcc.reports.terminal import cost_tree
from mpcc.reports.tree import SORTS, Row, tree

__all__ = [
    "SORTS",
    "Decision",
    "Level",
    "Owner",
    "Row",
    "agreement_lines",
    "cost_page",
    "cost_tree",
    "decisions",
    "owner_tables",
    "program_page",
    "traced_layers",
    "tree",
]
