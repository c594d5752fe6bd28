"""A report of 50 candidates with pictures: its size, how long it opens in Chromium, what axe-core says.

    python tests/benchmarks/large_report.py [CANDIDATES] [FILE]

With FILE the report is written there, to be looked at. It should be below 5 MB, open in less than 1 s,
and nothing serious should be found in it, at 1440 and 390 pixels, light and dark.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "support"), str(ROOT / "tasks" / "report")]

from made_reports import made_large_report  # noqa: E402
from prefect_hone.tasks.report.page import page  # noqa: E402
from prefect_hone.tasks.report.pictures import draw  # noqa: E402
from test_page_in_browser import CHROMIUM, WHOLE, WIDTHS, axe  # noqa: E402

TRIES = 5


def opened(browser: Any, url: str, width: int, scheme: str) -> tuple[list[float], list[str]]:
    """Seconds until the page is loaded and laid out, and what axe-core finds."""
    took: list[float] = []
    found: list[str] = []
    for attempt in range(TRIES):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        tab = context.new_page()
        began = time.perf_counter()
        tab.goto(url)
        tab.evaluate("document.documentElement.scrollWidth")
        took.append(time.perf_counter() - began)
        if attempt == 0:
            tab.add_style_tag(content=WHOLE)
            wide = tab.evaluate("document.documentElement.scrollWidth")
            tab.evaluate(axe())
            violations = tab.evaluate("axe.run()")["violations"]
            found = [f"{one['id']} ({one['impact']})" for one in violations]
            found += ["it scrolls sideways"] if wide > width else []
        context.close()
    return took, found


def main(count: int, file: Path | None) -> int:
    from playwright.sync_api import sync_playwright

    report = made_large_report(count)
    began = time.perf_counter()
    text = page(report, draw(report))
    print(
        f"{count} candidates: {len(text) / 1e6:.2f} MB, drawn in {time.perf_counter() - began:.1f} s"
    )
    good = len(text) < 5e6
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        path = file or Path(folder) / "report.html"
        path.write_text(text)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                took, found = opened(browser, path.absolute().as_uri(), width, scheme)
                print(
                    f"{width} px, {scheme}: opens in {statistics.median(took):.2f} s "
                    f"[{min(took):.2f}, {max(took):.2f}]; axe-core: {', '.join(found) or 'nothing'}"
                )
                good &= not found and statistics.median(took) < 1
        browser.close()
    return 0 if good else 1


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    files = [Path(word) for word in sys.argv[1:] if not word.isdigit()]
    sys.exit(main(numbers[0] if numbers else 50, files[0] if files else None))
