"""The pictures of a report, drawn once and kept: a run that computes nothing draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from ...recipe.strict import Strict
from .alike import layers_of, sensitivity_of
from .contents import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What each picture shows, for those who can't see it.
_LABELS = {
    "pareto": "Quality against latency of every candidate, with the Pareto frontier",
    "rounds": "Median latency of each round of every candidate",
    "robustness": "Quality under corrupted inputs by strength, of the trained model and candidates",
    "training": "Loss and quality over the steps of the training",
}


class Pictures(Strict):
    """Pictures as `<svg>` elements.

    Attributes:
        plain: By name (`pareto`, `rounds`, ...); only those that there is data for.
        sensitivity: Sensitivity of layers, by the first candidate that it is the same of.
        layers: SQNR along the graph, likewise.
        groups: Quality by group, by candidate.
    """

    plain: dict[str, str] = Field(default_factory=dict)
    sensitivity: dict[str, str] = Field(default_factory=dict)
    layers: dict[str, str] = Field(default_factory=dict)
    groups: dict[str, str] = Field(default_factory=dict)


def draw(report: Report) -> Pictures:
    """Draw every picture that there is data for."""
    from .drawing import svg
    from .figures import Figures
    from .look_figures import robustness

    figures = Figures(report)
    drawn = {
        "pareto": figures.pareto(), "rounds": figures.rounds(), "training": figures.training(),
        "robustness": robustness(report),
    }  # fmt: skip
    return Pictures(
        plain={n: svg(figure, _LABELS[n], n) for n, figure in drawn.items() if figure is not None},
        sensitivity=_of_each(
            sensitivity_of(report), figures.sensitivity, "Sensitivity of the layers"
        ),
        layers=_of_each(layers_of(report), figures.layers, "Signal-to-noise ratio of the layers"),
        groups=_of_each(report.judged, figures.groups, "Quality by group"),
    )


def _of_each(
    names: Iterable[str], drawn: Callable[[str], Figure | None], label: str
) -> dict[str, str]:
    """A picture of each candidate that there is data for."""
    from .drawing import svg

    figures = {name: drawn(name) for name in names}
    return {
        name: svg(figure, f"{label} of {name}", f"{label} {name}")
        for name, figure in figures.items()
        if figure is not None
    }


def draw_pareto(report: Report) -> bytes | None:
    """The Pareto picture as a PNG, for places that show no page; None if nothing was measured."""
    from .drawing import PLAIN, png
    from .figures import Figures

    figure = Figures(report, PLAIN).pareto()
    return None if figure is None else png(figure)
