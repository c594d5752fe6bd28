"""The report in a real browser: no error, no request, nothing that keeps somebody from reading it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_reports import made_report
from prefect_hone.tasks.report.page import page
from prefect_hone.tasks.report.pictures import draw

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")
WIDTHS = (1440, 390)
#: Lays out what is out of sight, too.
WHOLE = "section { content-visibility: visible !important }"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report = made_report()
    path.write_text(page(report, draw(report)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def axe() -> str:
    """The source of axe-core, which a package bundles."""
    import axe_playwright_python

    (source,) = Path(axe_playwright_python.__file__).parent.glob("axe*.js")
    return source.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_network_and_anybody_can_read_it(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if request.url != url else None)
    tab.goto(url)
    assert said == []
    tab.add_style_tag(content=WHOLE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, (
        "it doesn't scroll sideways"
    )
    tab.evaluate(axe())
    violations = tab.evaluate("axe.run()")["violations"]
    assert [(v["id"], v["impact"]) for v in violations] == []
    context.close()


def test_a_table_is_sorted_by_a_click_and_is_whole_without_scripts(browser: Any, url: str) -> None:
    def column(tab: Any) -> list[float]:
        cells = tab.query_selector_all("#candidates tbody tr td:nth-child(4)")
        return [float(cell.get_attribute("data-sort")) for cell in cells]

    tab = browser.new_page()
    tab.goto(url)
    before = column(tab)
    tab.click("#candidates thead th:nth-child(4) button")
    assert column(tab) == sorted(before)
    tab.click("#candidates thead th:nth-child(4) button")
    assert column(tab) == sorted(before, reverse=True)
    tab.close()
    silent = browser.new_context(java_script_enabled=False)
    tab = silent.new_page()
    tab.goto(url)
    assert column(tab) == before
    assert tab.query_selector("#candidates thead button") is None
    silent.close()


def test_printed_it_is_whole(browser: Any, url: str) -> None:
    """Sections that are out of sight are not laid out on the screen, and pictures not decoded."""
    skipped = "[...document.querySelectorAll('section')].filter(s => !s.checkVisibility({contentVisibilityAuto: true}) || getComputedStyle(s).contentVisibility != 'visible').length"
    undrawn = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    tab = browser.new_page()
    tab.goto(url)
    assert tab.evaluate(skipped) > 0
    assert tab.evaluate("document.images.length") > 0
    tab.emulate_media(media="print")
    assert tab.evaluate(skipped) == 0
    printed = tab.pdf()
    tab.emulate_media(media="screen")
    assert tab.evaluate(undrawn) == 0, "printing waits for pictures"
    assert printed.count(b"/Subtype /Image") >= tab.evaluate(
        "new Set([...document.images].map(i => i.src)).size"
    )
    tab.close()


def test_a_link_within_it_leads_to_its_section(browser: Any, url: str) -> None:
    """Though the sections between are laid out on the way."""
    tab = browser.new_page(viewport={"width": 1440, "height": 300})
    tab.goto(url)
    links = tab.query_selector_all("nav a")
    assert links
    for link in links:
        link.click()
        tab.wait_for_function(
            "place => Math.abs(document.querySelector(place).getBoundingClientRect().top) < 2 || "
            "innerHeight + scrollY >= document.documentElement.scrollHeight - 1",
            arg=link.get_attribute("href"), timeout=5000,
        )  # fmt: skip
        tab.evaluate("scrollTo(0, 0)")
    tab.close()
