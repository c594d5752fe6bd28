"""The figure of robustness: quality by strength, of the trained model and of every candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..specs.robustness import STRENGTHS
from .contents import Report
from .drawing import PAGE, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..specs.robustness import RobustnessFacts

_SIZE = (7.2, 2.7)  # inches
_MOST = 20  # candidates


def robustness(report: Report, colors: dict[str, str] = PAGE) -> Figure | None:
    """A part for each corruption, from clean to strong; None if nothing was corrupted."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    found = {name: facts for name, facts in report.robustness.items() if facts.conditions}
    if not found:
        return None
    first = next(iter(found.values()))
    corruptions = list(dict.fromkeys(one.corruption for one in first.conditions))
    with mpl.rc_context(settings(colors)):
        figure = Figure(figsize=_SIZE, layout="constrained")
        parts = list(figure.subplots(1, len(corruptions), squeeze=False, sharey=True)[0])
        winner = report.outcome.winner
        for axes, corruption in zip(parts, corruptions, strict=True):
            for name, facts in sorted(found.items(), key=lambda pair: pair[0] == winner)[-_MOST:]:
                best = name == winner
                _line(
                    axes, facts, corruption, True, color=colors["winner" if best else "passed"],
                    lw=1.8 if best else 0.9, alpha=1.0 if best else 0.6, marker="o" if best else "",
                    ms=4, label=f"{name} (winner)" if best else "candidates",
                )  # fmt: skip
            _line(
                axes, first, corruption, False, color=colors["baseline"], lw=1.3, ls="--",
                marker="D", ms=3.5, label="trained model",
            )  # fmt: skip
            axes.set_title(corruption, fontsize=9, color=colors["ink"])
            axes.set_xticks(range(4), ("clean", *STRENGTHS), fontsize=7.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(visible=True, color=colors["line"], lw=0.5, alpha=0.6)
            axes.set_axisbelow(True)
        parts[0].set_ylabel(report.recipe.quality.name)
        handles, labels = parts[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), frameon=False, fontsize=8, ncols=3,
                      loc="outside lower center")  # fmt: skip
    return figure


def _line(
    axes: Axes, facts: RobustnessFacts, corruption: str, of_candidate: bool, **style: Any
) -> None:
    some = sorted(
        (one for one in facts.conditions if one.corruption == corruption),
        key=lambda one: one.strength,
    )
    clean = facts.after if of_candidate else facts.before
    values = [
        float("nan") if clean is None else clean,
        *(one.after if of_candidate else one.before for one in some),
    ]
    axes.plot(range(len(values)), values, **style)
