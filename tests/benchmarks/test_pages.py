"""Parts of the documentation that commands write."""

import pytest

from benchmarks import accuracy, models, pages, real_models, same_network, table

PAGE = "before\n<!-- row: begin -->\nold\n<!-- row: end -->\nafter\n"


def test_only_the_marked_part_of_a_page_is_rewritten(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    pages.rewrite(page, "row", "new\n")
    assert page.read_text() == PAGE.replace("old", "new")
    pages.rewrite(page, "row", lambda old: old.replace("new", "newer"))
    assert page.read_text() == PAGE.replace("old", "newer")
    with pytest.raises(pages.PageError, match=r"page\.md has no place between <!-- line: begin"):
        pages.rewrite(page, "line", "new")


@pytest.mark.parametrize(
    ("page", "part"),
    [
        (accuracy.PAGE, "operator errors"),
        (models.PAGE, "real models"),
        (same_network.PAGE, "same network"),
        (pages.DOCS / "benchmarks.md", table.PART),
        (pages.README, table.PART),
    ],
)
def test_pages_have_the_places(tmp_path, page, part):
    copy = tmp_path / page.name
    copy.write_bytes(page.read_bytes())
    pages.rewrite(copy, part, lambda old: old)
    assert copy.read_bytes() == page.read_bytes()


def test_rows_of_other_models_stay(tmp_path):
    page = tmp_path / "models.md"
    page.write_bytes(models.PAGE.read_bytes())
    header = real_models.HEADER
    models.write_rows(header, {"liveness": "| liveness | new |"}, ["MiniLM-L6", "liveness"], page)
    lines = page.read_text().partition("real models: begin -->\n")[2].splitlines()
    assert lines[:2] == header.splitlines()
    assert lines[2].startswith("| MiniLM-L6 | embedding")
    assert lines[3:5] == ["| liveness | new |", "<!-- real models: end -->"]
