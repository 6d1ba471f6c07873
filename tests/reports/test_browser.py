"""The pages in a real browser: under their own policy, offline, with and without scripts."""

import pytest

from mpcc.reports import Level, Owner, cost_page, decisions, program_page
from scripts.check_system import BROWSERS
from scripts.check_system import browser as installed
from tests.reports.browser import Browser, Page
from tests.reports.programs import HOSTILE, chain, hostile, report, secure
from tests.test_cost import module

pytestmark = pytest.mark.skipif(
    installed() is None,
    reason=f"no browser: none of {', '.join(BROWSERS)} is installed (apt-get install chromium)",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(installed(), tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page's text; at the end it must have asked for nothing and complained of nothing."""
    pages: list[Page] = []

    def opened(text, **options):
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(text)
        pages.append(browser.open(path, **options))
        return pages[-1]

    yield opened
    for page in pages:
        assert page.requests() == []
        assert page.problems() == []
        assert page.run("document.title") != "hacked"
        page.close()


def names(page):
    return page.run("[...document.querySelectorAll('#layers tbody tr')].map(r => r.dataset.name)")


def shown(page, selector):
    return page.run(
        f"[...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility()).length"
    )


def text(page, selector):
    return page.run(f"document.querySelector('{selector}').textContent")


def test_the_browser_enforces_the_policy(show):
    page = show(cost_page(report(module())))
    page.run(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1';"
        " document.body.append(s); 0"
    )
    page.run("const i = new Image(); i.src = 'https://example.org/x.png'; 0")
    page.settle()
    assert page.run("document.title") != "1"
    problems = page.problems()
    assert any("Content Security Policy" in p and "script" in p for p in problems)
    assert any("Content Security Policy" in p and "example.org" in p for p in problems)
    page._browser.events.clear()


def test_the_table_of_layers_is_sorted_and_filtered(show):
    page = show(cost_page(report(module())))
    assert names(page) == ["w_0", "x_0", "fc_0", "out_0"]
    sent = page.run(
        "[...document.querySelectorAll('#layers th')].findIndex(h => h.textContent=='sent')"
    )
    page.click("#layers thead button", sent)
    assert names(page) == ["out_0", "fc_0", "x_0", "w_0"]
    page.click("#layers thead button", sent)
    assert names(page) == ["w_0", "x_0", "fc_0", "out_0"]
    page.click("#layers thead button", 0)
    assert names(page) == ["fc_0", "out_0", "w_0", "x_0"]
    assert page.run("document.querySelector('#layers th').ariaSort") == "ascending"
    page.type("#filter", "C_")
    assert shown(page, "#layers tbody tr") == 1
    assert text(page, "#count") == "1 of 4 layers"


def test_bars_are_as_long_as_their_figures(show):
    page = show(cost_page(report(module())))
    widths = page.run(
        "[...document.querySelectorAll('#layers tbody rect.bytes')]"
        ".map(r => r.getBoundingClientRect().width)"
    )
    # Of the 0, 32, 35 and 64 bytes of four layers.
    assert widths[0] == 0
    assert widths[1] / widths[3] == pytest.approx(0.5, abs=0.02)
    assert widths[2] / widths[3] == pytest.approx(35 / 64, abs=0.02)
    assert widths[3] > 30


def test_tables_need_no_script(show):
    page = show(cost_page(report(module()), decisions=decisions(secure())), scripts=False)
    # Chromium itself may still ask the page.
    assert names(page) == ["w_0", "x_0", "fc_0", "out_0"]
    assert shown(page, "#layers tbody tr") == 4
    assert shown(page, "#tools") == 0
    page.click("#layers summary")
    assert page.run("document.querySelector('#layers details').open")
    graph = show(program_page([Level("party", module())], report(module()), "party"), scripts=False)
    assert shown(graph, "#bar, #app") == 0
    graph.click("#tables summary")
    # Four layers, and what has no label.
    assert shown(graph, "#tables tbody tr") == 5


def test_light_and_dark_can_be_read(show):
    """Contrast of text and background after WCAG 2: at least 4.5 to 1."""
    script = """(() => {
      const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(x => { x /= 255;
        return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const back = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll('p, th, td, h2, button, .soft, dt')].map(e => {
        const l = light(getComputedStyle(e).color);
        return (Math.max(l, back) + 0.05) / (Math.min(l, back) + 0.05); }); })()"""
    backs = set()
    for dark in (False, True):
        for made in (
            cost_page(report(module())),
            program_page([Level("party", module())], report(module()), "party"),
        ):
            page = show(made, dark=dark)
            ratios = page.run(script)
            assert len(ratios) > 5
            assert min(ratios) >= 4.5
            backs.add(page.run("getComputedStyle(document.body).backgroundColor"))
    assert len(backs) == 2


def test_everything_has_a_name_for_screen_readers(show):
    for made in (
        cost_page(report(module()), decisions=decisions(secure())),
        program_page([Level("party", module())], report(module()), "party"),
    ):
        page = show(made)
        page.call("Accessibility.enable")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "searchbox", "image", "columnheader", "link", "heading", "region"}
        found = [n for n in nodes if n.get("role", {}).get("value") in roles and not n["ignored"]]
        assert len(found) > 5
        assert [n["role"]["value"] for n in found if not n.get("name", {}).get("value")] == []
        assert page.run("document.documentElement.lang") == "en"


def test_hostile_names_do_nothing(show):
    owner = Owner(nodes={"x_0": HOSTILE[0]}, reasons={"x_0": ((HOSTILE[1], HOSTILE[2]),)})
    page = show(cost_page(report(hostile()), owner=owner))
    found = names(page)
    assert HOSTILE[1] in found
    assert HOSTILE[2] in found
    assert page.run("document.images.length") == 0
    graph = show(program_page([Level("party", hostile())], report(hostile()), "party", owner))
    graph.type("#search", "<img")
    graph.click("#found button")
    assert HOSTILE[1] in text(graph, "#details")
    assert graph.run("document.images.length") == 0
    assert graph.run("document.scripts.length") == 2


def test_walking_through_the_program(show):
    levels = [Level("party", module()), Level("secure", secure())]
    page = show(program_page(levels, report(module()), "secure"))
    assert text(page, "#status") == "secure: 3 layers"
    page.click("#levels button", 0)
    assert text(page, "#status") == f"party: {shown(page, '#graph g.node')} layers"
    page.type("#search", "matmul")
    assert shown(page, "#found button") == 1
    page.click("#found button")
    for word in ("party.matmul", "ring64<2x2>@P0", "fc_0", "of computing", "operand"):
        assert word in text(page, "#details")
    assert text(page, "#status") == "party: 6 operations of fc_0"
    # From an operation to the one that made its operand.
    page.click("#details button")
    assert "party.transfer" in text(page, "#details")
    assert "32 bytes client->0, online, round 1" in text(page, "#details")
    page.click("#all")
    assert page.run("document.getElementById('all').disabled")
    # By a click and another one, as the page says.
    first = page.run(
        "[...document.querySelectorAll('g.node')].findIndex(n => "
        "n.getAttribute('aria-label').startsWith('fc_0'))"
    )
    page.click("g.node", first)
    assert "35 B" in text(page, "#details")
    page.click("g.node.chosen")
    assert text(page, "#status") == "party: 6 operations of fc_0"


def test_only_what_is_in_view_is_drawn(show):
    count = 1500
    made = chain([f"layer_{i}" for i in range(count)])
    page = show(program_page([Level("party", made)], report(made), "party"))
    assert text(page, "#status").startswith(f"party: {count + 2} layers")
    assert 3 < shown(page, "#graph g.node") < 100
    page.type("#search", f"layer_{count - 1}")
    page.click("#found button")
    assert shown(page, f'g.node.chosen[aria-label^="layer_{count - 1},"]') == 1
    assert shown(page, "#graph g.node") < 100
