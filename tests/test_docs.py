"""The documentation pages."""

import re
from pathlib import Path

from mpcc.ir.ops.tensor import DIALECT

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (DOCS / "README.md").read_text()))
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert linked == pages


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+\.\w+)\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_the_table_of_kinds_has_every_operator():
    table = [line for line in (DOCS / "levels.md").read_text().splitlines() if line[:2] == "| "]
    named = set(re.findall(r"`(\w+)`", "\n".join(table)))
    assert {name.partition(".")[2] for name in DIALECT.operations} <= named
