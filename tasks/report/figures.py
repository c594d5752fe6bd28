"""Figures of a report, as matplotlib draws them; `drawing.py` writes them as SVG or PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...recipe.measures import MEASURES
from ..outcome import Candidate
from ..specs.benchmark import BASELINE
from .contents import Report
from .drawing import PAGE, scale, settings, write_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.2  # inches
_MOST_LABELS = 12
_MOST_LAYERS = 40
_MOST_ROWS = 30
_MOST_GROUPS = 25
#: Outputs that are this good (dB) are drawn as exact.
_EXACT = 100

Point = tuple[float, float, Candidate]


@dataclass(frozen=True)
class Drawing:
    """A figure, with its axes from left to right."""

    figure: Figure
    axes: list[Axes]


class Figures:
    """Draws the figures of a report.

    Args:
        report: What is drawn.
        colors: `PAGE`, or `PLAIN`.
    """

    def __init__(self, report: Report, colors: dict[str, str] = PAGE) -> None:
        self._report = report
        self._colors = colors
        self._quality = MEASURES["quality.value"].mlflow(report.recipe.quality.name)

    def pareto(self) -> Figure | None:
        """Quality against latency: size as area, the frontier as a line, gates as dashed lines.

        None if nothing was measured.
        """
        report, quality = self._report, self._quality
        points = [
            (c.metrics["latency/p50_ms"], c.metrics[quality], c)
            for c in report.measured
            if "latency/p50_ms" in c.metrics and quality in c.metrics
        ]
        if not points:
            return None
        with self._drawing(4.4) as drawing:
            figure, axes = drawing.figure, drawing.axes[0]
            largest = max(c.metrics.get("size/bytes", 1.0) for _, _, c in points)
            for x, y, candidate in points:
                self._spread(axes, candidate)
                area = 30 + 370 * candidate.metrics.get("size/bytes", 0.0) / largest
                mark = axes.scatter([x], [y], s=area, color=self._color(candidate), alpha=0.75,
                                    linewidths=0, zorder=3)  # fmt: skip
                mark.set_gid(f"point {self._told(candidate)}")
            self._baseline_point(axes)
            best = frontier([(x, y) for x, y, _ in points], self._report.recipe.quality.rises)
            if len(best) > 1:
                axes.step([x for x, _ in best], [y for _, y in best], where="post", lw=1.2,
                          color=self._colors["winner"], alpha=0.7, zorder=1)  # fmt: skip
            self._gate_lines(axes)
            latencies = [x for x, _, _ in points]
            eager = report.outcome.baseline.get("latency/p50_ms")
            scale(axes, latencies if eager is None else [*latencies, eager])
            axes.margins(x=0.12, y=0.12)
            axes.set_xlabel(f"latency p50 (ms), batch size {report.batch}")
            axes.set_ylabel(f"{report.recipe.quality.name} on the test split")
            figure.draw_without_rendering()  # only now it is known where the points lie
            named = [(x, y, candidate.name) for x, y, candidate in self._named(points)]
            write_names(axes, named, self._colors["ink"])
        return figure

    def rounds(self) -> Figure | None:
        """The median latency of each round, a row for each candidate: the spread of the timings.

        None if nothing was timed.
        """
        report = self._report
        timed = {
            name: timing
            for name in report.timings
            if (timing := report.timing(name)) is not None and timing.rounds
        }
        names = sorted(timed, key=lambda name: timed[name].p50_ms)[:_MOST_ROWS]
        if not names:
            return None
        known = {c.name: c for c in report.outcome.candidates}
        with self._drawing(0.9 + 0.28 * len(names)) as drawing:
            figure, axes = drawing.figure, drawing.axes[0]
            for row, name in enumerate(reversed(names)):
                color = self._color(known[name]) if name in known else self._colors["baseline"]
                launches = timed[name].rounds
                for number, launch in enumerate(launches):
                    level = row + 0.3 * (number + 0.5) / len(launches) - 0.15
                    axes.scatter([1e3 * s for s in launch], [level] * len(launch), s=9,
                                 color=color, alpha=0.55, linewidths=0)  # fmt: skip
                axes.plot([timed[name].p50_ms] * 2, [row - 0.32, row + 0.32], lw=1.4,
                          color=self._colors["ink"])  # fmt: skip
            shown = ["PyTorch eager" if n == BASELINE else n for n in reversed(names)]
            axes.set_yticks(range(len(names)), shown)
            scale(axes, [1e3 * s for n in names for launch in timed[n].rounds for s in launch])
            axes.set_xlabel(f"median of each round (ms), batch size {report.batch}")
        return figure

    def training(self) -> Figure | None:
        """Losses and quality over the steps of the training; None if nothing was trained."""
        curves = self._report.curves
        metric = self._report.recipe.quality.name
        if "train/loss" not in curves:
            return None
        with self._drawing(2.8, columns=2) as drawing:
            figure, both = drawing.figure, drawing.axes
            left, right = both
            for name, color in (("train/loss", "dim"), ("validation/loss", "passed")):
                if name in curves:
                    left.plot(curves[name].steps, curves[name].values, lw=1.3,
                              color=self._colors[color], label=name.replace("/", " "))  # fmt: skip
            left.legend(frameon=False, fontsize=8)
            left.set_ylabel("loss")
            found = curves.get(f"validation/{metric}")
            if found is not None:
                right.plot(found.steps, found.values, color=self._colors["winner"], lw=1.3,
                           marker=".")  # fmt: skip
            right.set_ylabel(f"validation {metric}")
            for axes in both:
                axes.set_xlabel("optimizer step")
        return figure

    def sensitivity(self, candidate: str) -> Figure | None:
        """SQNR of the outputs with only one layer quantized, the most sensitive layers first."""
        found = self._report.sensitivity.get(candidate, {})
        finite = [(name, db) for name, db in found.items() if math.isfinite(db)]
        layers = sorted(finite, key=lambda pair: pair[1])[:_MOST_LAYERS]
        if not layers:
            return None
        left = set(self._report.left_alone.get(candidate, ()))
        with self._drawing(0.9 + 0.2 * len(layers)) as drawing:
            figure, axes = drawing.figure, drawing.axes[0]
            names = [name for name, _ in reversed(layers)]
            colors = [self._colors["failed" if name in left else "passed"] for name in names]
            decibels = [db for _, db in reversed(layers)]
            axes.barh(range(len(names)), decibels, color=colors, height=0.7)
            axes.set_yticks(range(len(names)), [name[-44:] for name in names], fontsize=7)
            axes.set_xlabel("SQNR of the outputs with only this layer quantized (dB)")
        return figure

    def groups(self, candidate: str) -> Figure | None:
        """Quality of each group, trained model (hollow) and candidate (full, with its interval)."""
        facts = self._report.judged.get(candidate)
        shown = list(reversed(facts.groups[:_MOST_GROUPS])) if facts is not None else []
        if not shown:
            return None
        with self._drawing(0.9 + 0.24 * len(shown)) as drawing:
            figure, axes = drawing.figure, drawing.axes[0]
            for row, group in enumerate(shown):
                color = self._colors["failed" if group.drop > 0 else "passed"]
                if group.low is not None and group.high is not None:
                    axes.plot([group.low, group.high], [row, row], color=self._colors["line"], lw=3)
                axes.plot([group.before, group.after], [row, row], color=color, lw=1)
                axes.plot([group.before], [row], marker="o", ms=6, mfc="none", color=color)
                axes.plot([group.after], [row], marker="o", ms=5, color=color)
            axes.set_yticks(range(len(shown)), [f"{g.name}  (n={g.count})" for g in shown])
            axes.set_xlabel(f"{self._report.recipe.quality.name} of each group")
        return figure

    def layers(self, candidate: str) -> Figure | None:
        """SQNR along the graph, layer by layer; where it departs is named."""
        facts = self._report.layers.get(candidate)
        if facts is None or not facts.layers:
            return None
        with self._drawing(2.8) as drawing:
            figure, axes = drawing.figure, drawing.axes[0]
            decibels = [min(layer.sqnr_db, _EXACT) for layer in facts.layers]
            axes.plot(range(len(decibels)), decibels, color=self._colors["passed"], lw=1.2,
                      marker=".", ms=4)  # fmt: skip
            for i, layer in enumerate(facts.layers):
                if layer.layer == facts.departs_at:
                    axes.plot([i], [decibels[i]], color=self._colors["failed"], marker="o", ms=7)
                    axes.annotate(layer.layer, (i, decibels[i]), xytext=(8, -3),
                                  textcoords="offset points", fontsize=8,
                                  color=self._colors["failed"])  # fmt: skip
            axes.set_xlabel("layers, from input to output")
            axes.set_ylabel("SQNR of the output (dB)")
        return figure

    @contextmanager
    def _drawing(self, height: float, columns: int = 1) -> Iterator[Drawing]:
        """A figure (inches) with its axes; matplotlib's settings are put back afterwards."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context(settings(self._colors)):
            figure = Figure(figsize=(_WIDTH, height), layout="constrained")
            both = list(figure.subplots(1, columns, squeeze=False)[0])
            yield Drawing(figure, both)
            for axes in both:
                axes.spines[["top", "right"]].set_visible(False)
                axes.grid(visible=True, color=self._colors["line"], lw=0.5, alpha=0.6)
                axes.set_axisbelow(True)

    def _spread(self, axes: Axes, candidate: Candidate) -> None:
        """The 95 % intervals of a point."""
        m, name = candidate.metrics, self._quality
        x, y = m["latency/p50_ms"], m[name]
        wide = (m.get("latency/p50_ms_low", x), m.get("latency/p50_ms_high", x))
        high = (m.get(f"{name}_low", y), m.get(f"{name}_high", y))
        for xs, ys in ((wide, (y, y)), ((x, x), high)):
            axes.plot(xs, ys, color=self._colors["line"], lw=1.0, zorder=2)

    def _baseline_point(self, axes: Axes) -> None:
        found = self._report.outcome.baseline
        if "latency/p50_ms" not in found or self._quality not in found:
            return
        x, y = found["latency/p50_ms"], found[self._quality]
        color = self._colors["baseline"]
        mark = axes.scatter([x], [y], marker="D", s=42, color=color, zorder=3)
        mark.set_gid(f"point PyTorch eager: {x:.4g} ms, {y:.4f}")
        axes.annotate("PyTorch eager", (x, y), xytext=(0, 12), textcoords="offset points",
                      ha="center", fontsize=8, color=color)  # fmt: skip

    def _gate_lines(self, axes: Axes) -> None:
        """Limits of gates on the two axes."""
        color = self._colors["failed"]
        for gate in self._report.recipe.own_gates:
            limit = gate.at_most if gate.at_most is not None else gate.at_least
            if limit is None or gate.batch_size not in (None, self._report.batch):
                continue
            told = f"gate: {gate.metric} {'≤' if gate.at_most is not None else '≥'} {limit:g}"
            if gate.metric == "latency.p50_ms":
                axes.axvline(limit, color=color, lw=1, ls="--")
                axes.annotate(told, (limit, 1), xycoords=("data", "axes fraction"), rotation=90,
                              va="top", xytext=(3, -4), textcoords="offset points", fontsize=8,
                              color=color)  # fmt: skip
            level = self._quality_limit(gate.metric, limit)
            if level is not None:
                axes.axhline(level, color=color, lw=1, ls="--")
                axes.annotate(told, (1, level), xycoords=("axes fraction", "data"), ha="right",
                              xytext=(0, 3), textcoords="offset points", fontsize=8,
                              color=color)  # fmt: skip

    def _quality_limit(self, measure: str, limit: float) -> float | None:
        """Where a gate on quality lies on the axis of quality; None if it is on something else."""
        baseline = self._report.outcome.baseline
        if measure in ("quality.value", f"quality.{self._report.recipe.quality.name}"):
            return limit
        if measure != "quality.drop" or self._quality not in baseline:
            return None
        return baseline[self._quality] - (1 if self._report.recipe.quality.rises else -1) * limit

    def _named(self, points: list[Point]) -> list[Point]:
        """Points that get a name, the winner first: all if there are few, else the frontier."""
        winner = self._report.outcome.winner
        chosen = points
        if len(points) > _MOST_LABELS:
            best = set(frontier([(x, y) for x, y, _ in points], self._report.recipe.quality.rises))
            chosen = [p for p in points if p[:2] in best or p[2].name == winner]
        return sorted(chosen, key=lambda p: (p[2].name != winner, p[0]))

    def _color(self, candidate: Candidate) -> str:
        if candidate.name == self._report.outcome.winner:
            return self._colors["winner"]
        return self._colors["passed" if candidate.status.value == "passed" else "failed"]

    def _told(self, candidate: Candidate) -> str:
        m = candidate.metrics
        return (
            f"{candidate.name}: {m['latency/p50_ms']:.4g} ms, {m[self._quality]:.4f}, "
            f"{candidate.status.value}"
        )


def frontier(points: Sequence[tuple[float, float]], higher: bool) -> list[tuple[float, float]]:
    """The points that no other one beats in both numbers: the first is to be low.

    Args:
        points: Pairs of numbers.
        higher: Whether the second number is to be high.
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1] if higher else p[1])):
        if not best or (y > best[-1][1] if higher else y < best[-1][1]):
            best.append((x, y))
    return best
