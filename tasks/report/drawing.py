"""How figures are drawn and written: matplotlib's settings, scales, names of points, SVG and PNG.

In a page, colors are its CSS variables, so one figure serves light, dark and printed pages; text
stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors that stand for the page's variables of these names.
PAGE = {
    "ink": "#010101", "dim": "#020202", "line": "#030303", "winner": "#040404",
    "passed": "#050505", "failed": "#060606", "baseline": "#070707",
}  # fmt: skip
#: Colors of a picture without a page around it.
PLAIN = {
    "ink": "#1b1f24", "dim": "#57606a", "line": "#d0d7de", "winner": "#0a7d33",
    "passed": "#1f6feb", "failed": "#b35900", "baseline": "#57606a",
}  # fmt: skip
#: From this ratio of the largest to the smallest value on, an axis is logarithmic.
_WIDE = 8


def svg(figure: Figure, label: str, salt: str) -> str:
    """A figure as an `<svg>` element that takes its colors from the page.

    Args:
        figure: The figure, drawn in the colors `PAGE`.
        label: What it shows, for those who can't see it.
        salt: Makes its ids unique in the page, and the same each time.
    """
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context({**settings(PAGE), "svg.hashsalt": salt}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None},
                       transparent=True)  # fmt: skip
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    for name, color in PAGE.items():
        text = text.replace(color, f"var(--{name})")
    text = re.sub(r'<g id="point ([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # the same in every figure
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def png(figure: Figure) -> bytes:
    """A figure in the colors `PLAIN`, on white."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=130, facecolor="#ffffff")
    return written.getvalue()


def settings(colors: dict[str, str]) -> dict[str, Any]:
    return {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "text.color": colors["ink"], "axes.labelcolor": colors["dim"],
        "axes.edgecolor": colors["line"], "xtick.color": colors["line"],
        "ytick.color": colors["line"], "xtick.labelcolor": colors["dim"],
        "ytick.labelcolor": colors["dim"], "axes.facecolor": "none",
        "figure.facecolor": "none", "text.parse_math": False,
    }  # fmt: skip


def scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x-axis with numbers as people write them, if the values are far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if min(values) <= 0 or max(values) < _WIDE * min(values):
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


#: Of names of points: size of a letter, and offsets from the point that are tried (points, 1/72").
_LETTER = (4.5, 9.0)
_OFFSETS = ((9, 6), (9, -13), (9, 18), (9, -25), (9, 30), (9, -37), (9, 42), (9, -49), (9, 54))


def write_names(axes: Axes, points: Sequence[tuple[float, float, str]], color: str) -> None:
    """Write names beside points, where they don't lie on each other; one without room has none."""
    unit = 72 / axes.figure.dpi
    taken: list[tuple[float, float, float, float]] = []
    for x, y, name in points:
        left, middle = (float(v) * unit for v in axes.transData.transform((x, y)))
        for right, up in _OFFSETS:
            box = (left + right, middle + up, left + right + _LETTER[0] * len(name),
                   middle + up + _LETTER[1])  # fmt: skip
            if any(_on_each_other(box, other) for other in taken):
                continue
            taken.append(box)
            line = {"arrowstyle": "-", "relpos": (0, 0.5), "color": color, "lw": 0.4, "alpha": 0.6}
            axes.annotate(name, (x, y), xytext=(right, up), textcoords="offset points",
                          fontsize=8, color=color, zorder=5,
                          arrowprops=line if abs(up) > 13 else None)  # fmt: skip
            break


def _on_each_other(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    """Whether two boxes (left, bottom, right, top) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
