"""Pages in headless Chromium: nothing leaves them, nothing goes wrong, the graph is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.report import Picture, Report
from metal4conv.verify.html.page import write_html
from tests.verify.browser import CHROMIUM, Browser, chromium
from tests.verify.pages import (
    HOSTILE,
    blocks,
    branches,
    built,
    debug_report,
    gradient,
    hostile,
    pictured,
    verify_report,
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH"
)

OPERATIONS = 2000
FAULT = 1203
FIRST = "block_240_tanh"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    large, two = built(blocks(OPERATIONS), folder, "large"), built(branches(), folder, "two")
    evil = built(hostile(), folder, "evil")
    reports: dict[str, Report] = {
        "agrees": verify_report(two),
        "differs": verify_report(two, off=0.5, wrong=["left"]),
        "debug": pictured(debug_report(large, fault=FAULT), 1),
        "fine": debug_report(two, fault=None),
        "hostile": pictured(debug_report(evil, fault=2, named=HOSTILE), 1, HOSTILE[0]),
        "hostile_verify": verify_report(
            built(branches(HOSTILE), folder, "evil two"), off=0.5, wrong=HOSTILE
        ),
    }
    for name, report in reports.items():
        write_html(folder / f"{name}.html", report, ["metal4conv", report.kind, *HOSTILE])
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Browser:
    """The module's browser, in light, with a window of usual size."""
    started.show_as(1400, 900)
    return started


def address(page: Path) -> str:
    return page.as_uri()


def text(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({selector!r}).textContent"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["agrees", "differs", "debug", "fine", "hostile", "hostile_verify"]
)
def test_no_error_and_no_request(name: str, scheme: str, pages: Path, browser: Browser) -> None:
    browser.show_as(1400, 900, scheme=scheme)
    page = pages / f"{name}.html"
    browser.open(address(page))
    for button in ("zoom-in", "fit", "expand"):
        browser.evaluate(f"document.getElementById('{button}').click()")
    assert browser.errors() == []
    assert browser.requests() == [address(page)]


def test_what_goes_wrong_is_seen(tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>console.error('told');"
        "setTimeout(() => alert(1)); nothing.here</script>"
    )
    browser.open(address(page))
    found = " ".join(browser.errors())
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert all(part in found for part in ("told", "nothing is not defined", "dialog: 1"))


def test_the_graph_of_two_thousand_operations_is_searchable(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    shown = text(browser, "#in-view")
    assert shown.endswith(" of 2,003 in view")
    assert 5 < int(shown.split()[0]) < 100
    browser.evaluate("document.getElementById('search').focus()")
    browser.type("TANH block_24")
    hits = browser.evaluate("[...document.querySelectorAll('#hits li')].map(row => row.innerText)")
    wanted = [24, *range(240, 250)]
    assert [hit.splitlines()[0] for hit in hits] == [f"tanh block_{n}_tanh" for n in wanted]
    assert text(browser, "#hit-count") == "11 hits"
    browser.press("Enter")
    assert text(browser, "#details h3") == "tanh block_24_tanh"
    browser.press("Enter")
    assert text(browser, "#details h3") == "tanh block_240_tanh"
    assert text(browser, "#hit-count") == "2 of 11 hits"
    browser.press("Enter", modifiers=8)
    assert text(browser, "#details h3") == "tanh block_24_tanh"


def test_search_finds_places_in_the_code(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    browser.press("/", text="/")
    browser.type("blocks.399.act net.py:24")
    assert text(browser, "#hit-count") == "1 hit"
    browser.evaluate("document.getElementById('search').value = ''")
    browser.type("no such operation")
    assert text(browser, "#hit-count") == "0 hits"
    assert browser.evaluate("document.getElementById('hits').hidden")


def test_the_failing_operation_is_in_the_middle_at_the_start(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    assert text(browser, "#details h3") == f"tanh {FIRST}"
    assert text(browser, "#details .flag") == "first to differ"
    browser.evaluate("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    red = canvas_color(browser, 0.5, 0.5, dy=12)
    assert red[0] > 180 > 100 > red[1]
    click_canvas(browser, 0.02, 0.02)
    assert "Choose an operation" in text(browser, "#details")
    click_canvas(browser, 0.5, 0.5)
    assert text(browser, "#details h3") == f"tanh {FIRST}"


def test_zoomed_out_all_is_in_view(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    browser.evaluate("document.getElementById('fit').click()")
    browser.settle()
    assert text(browser, "#in-view") == "2,003 of 2,003 in view"
    colors = browser.evaluate(
        "(() => { const c = document.getElementById('canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
        "for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i+1] << 8 | d[i+2]);"
        "return s.size; })()"
    )
    assert colors > 4


def test_keys_move_and_choose(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "differs.html"))
    browser.evaluate("document.getElementById('canvas').focus()")
    seen = []
    for _ in range(3):
        browser.press("n", text="n")
        seen.append(text(browser, "#details h3"))
    assert seen == ["input x", "tanh stem", "relu left relu"]
    before = text(browser, "#in-view")
    for _ in range(8):
        browser.press("PageDown")
    assert before != text(browser, "#in-view") == "0 of 8 in view"
    browser.press("0", text="0")
    assert text(browser, "#in-view") == "8 of 8 in view"


def test_the_wheel_zooms_only_what_was_clicked(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    browser.evaluate("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    browser.evaluate("document.activeElement.blur()")
    before = text(browser, "#in-view")
    wheel(browser)
    assert text(browser, "#in-view") == before
    click_canvas(browser, 0.02, 0.02)
    wheel(browser)
    assert int(text(browser, "#in-view").split()[0]) > int(before.split()[0])


def test_the_chart_leads_to_the_graph(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    browser.evaluate("document.getElementById('growth').scrollIntoView()")
    box = browser.evaluate(
        "(() => { const b = document.querySelector('#growth svg').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    y = box[1] + box[3] / 2
    for x, name in ((box[0] + 2, "sigmoid mask"), (box[0] + box[2] - 2, "add y")):
        browser.page("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        browser.settle()
        assert text(browser, "#tip").startswith(f"{name}running ")
    browser.click(x, y)
    assert text(browser, "#details h3") == "add y"


def test_a_name_in_a_table_leads_to_the_graph(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "debug.html"))
    click_canvas(browser, 0.02, 0.02)
    browser.evaluate("document.querySelector('#causes [data-node]').click()")
    assert text(browser, "#details h3") == f"tanh {FIRST}"


def test_hostile_names_are_text(pages: Path, browser: Browser) -> None:
    for name in ("hostile", "hostile_verify"):
        browser.open(address(pages / f"{name}.html"))
        counts = browser.evaluate(
            "['script', 'img:not([src^=\"data:\"])', '[onmouseover]', '[onerror]', 'iframe']"
            ".map(selector => document.querySelectorAll(selector).length)"
        )
        assert counts == [2, 0, 0, 0, 0], "the page's own data and script, and nothing else"
        shown = text(browser, "main")
        assert all(part in shown for part in HOSTILE[:4])
        assert "\u202e" not in browser.evaluate("document.documentElement.outerHTML")
        assert "⟨U+202E⟩gnp.live" in shown
        browser.evaluate("document.getElementById('search').focus()")
        browser.type("</script>")
        assert HOSTILE[1] in text(browser, "#hits")
        assert browser.errors() == []


def test_the_policy_lets_nothing_in(pages: Path, browser: Browser) -> None:
    browser.open(address(pages / "agrees.html"))
    browser.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p onclick=\"window.ran = 1\">"
        '<img src="http://127.0.0.1:9/y.png">\')'
    )
    browser.evaluate("document.body.lastElementChild.click()")
    failed = browser.evaluate("fetch('http://127.0.0.1:9/z').then(() => 'sent', () => 'refused')")
    assert failed == "refused"
    assert browser.evaluate("window.ran") is None
    assert "Content Security Policy" in " ".join(browser.errors())
    assert browser.requests()[1:], "Chromium tells requests before it refuses them"
    assert browser.refused() >= set(browser.requests()[1:])


def test_it_prints_in_light(pages: Path, browser: Browser) -> None:
    browser.show_as(1000, 900, scheme="dark", media="print")
    browser.open(address(pages / "differs.html"))
    color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(255, 255, 255)"
    assert len(browser.page("Page.printToPDF", printBackground=True)["data"]) > 10_000
    assert browser.errors() == []


def canvas_color(browser: Browser, x: float, y: float, *, dy: int = 0) -> list[int]:
    """The color at a place of the canvas, in parts of its size, and so many pixels below."""
    found: list[int] = browser.evaluate(
        "(() => { const c = document.getElementById('canvas'); return [...c.getContext('2d')"
        f".getImageData(c.width * {x}, c.height * {y} + {dy}, 1, 1).data]; }})()"
    )
    return found


def canvas_point(browser: Browser, x: float, y: float) -> tuple[float, float]:
    """A place of the canvas in the window."""
    left, top, width, height = browser.evaluate(
        "(() => { const b = document.getElementById('canvas').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    return left + x * width, top + y * height


def click_canvas(browser: Browser, x: float, y: float) -> None:
    browser.evaluate("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    browser.click(*canvas_point(browser, x, y))


def wheel(browser: Browser) -> None:
    x, y = canvas_point(browser, 0.5, 0.5)
    for _ in range(4):
        browser.page("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=120)
    browser.settle()


@pytest.mark.parametrize(("width", "rows"), [(1200, 1), (500, 3)])
def test_source_package_and_difference_stand_beside_each_other(
    width: int, rows: int, tmp_path: Path, browser: Browser
) -> None:
    wide = gradient(300, 480)
    report = verify_report(built(branches(), tmp_path))
    report = replace(report, pictures=(Picture("left", "case0", wide, wide),))
    file = tmp_path / "page.html"
    write_html(file, report, ["metal4conv", "verify"])
    browser.show_as(width, 900)
    browser.open(file.as_uri())
    tops = browser.evaluate(
        "[...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().top)"
    )
    assert (len(tops), len({*tops})) == (3, rows)
