"""The pictures of a report, drawn once and kept: a run that computes nothing draws nothing."""

from __future__ import annotations

from pydantic import Field

from ...recipe.strict import Strict
from .contents import Report

#: What each picture shows, for those who can't see it.
_LABELS = {
    "pareto": "Quality against latency of every candidate, with the Pareto frontier",
    "rounds": "Median latency of each round of every candidate",
    "training": "Loss and quality over the steps of the training",
}


class Pictures(Strict):
    """Pictures as `<svg>` elements.

    Attributes:
        plain: By name: `pareto`, `rounds`, `training`; only those that there is data for.
        sensitivity: Sensitivity of layers, by candidate.
        layers: SQNR along the graph, by candidate.
    """

    plain: dict[str, str] = Field(default_factory=dict)
    sensitivity: dict[str, str] = Field(default_factory=dict)
    layers: dict[str, str] = Field(default_factory=dict)


def draw(report: Report) -> Pictures:
    """Draw every picture that there is data for."""
    from .drawing import svg
    from .figures import Figures

    figures = Figures(report)
    drawn = {
        "pareto": figures.pareto(), "rounds": figures.rounds(), "training": figures.training(),
    }  # fmt: skip
    sensitivity = {name: figures.sensitivity(name) for name in report.sensitivity}
    layers = {name: figures.layers(name) for name in report.layers}
    return Pictures(
        plain={n: svg(figure, _LABELS[n], n) for n, figure in drawn.items() if figure is not None},
        sensitivity={
            name: svg(figure, f"Sensitivity of the layers of {name}", name)
            for name, figure in sensitivity.items()
            if figure is not None
        },
        layers={
            name: svg(figure, f"Signal-to-noise ratio of the layers of {name}", f"layers-{name}")
            for name, figure in layers.items()
            if figure is not None
        },
    )


def draw_pareto(report: Report) -> bytes | None:
    """The Pareto picture as a PNG, for places that show no page; None if nothing was measured."""
    from .drawing import PLAIN, png
    from .figures import Figures

    figure = Figures(report, PLAIN).pareto()
    return None if figure is None else png(figure)
