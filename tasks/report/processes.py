"""What the process of each candidate takes besides its calls: start, memory, energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...recipe.measures import bytes_in_words
from ..outcome import Outcome
from .rows import Cell, Row
from .table import ordered

_NOT_TOLD = "not measured"
#: MLflow's name, heading, and how a value is shown.
_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cold_start/load_s", "start to loaded (s)", "{:.2f}".format),
    ("cold_start/first_answer_s", "start to first answer (s)", "{:.2f}".format),
    ("memory/peak_bytes", "memory, at most", bytes_in_words),
    ("memory/gpu_bytes", "GPU memory", bytes_in_words),
    ("energy/joules_per_sample", "energy a sample (mJ)", lambda joules: f"{1e3 * joules:.3g}"),
)
#: Headings of the table, after the candidate's name.
HEADINGS = tuple(heading for _, heading, _ in _SHOWN)


def process_rows(outcome: Outcome) -> list[Row]:
    """A row for the trained model in PyTorch eager and for each measured candidate; none if
    nothing was measured of their processes.
    """
    found = [("PyTorch eager", outcome.baseline, "baseline")]
    for candidate in ordered(outcome):
        kind = "winner" if candidate.name == outcome.winner else ""
        found.append((candidate.name, candidate.metrics, kind))
    return [
        Row(name, _cells(metrics), kind)
        for name, metrics, kind in found
        if any(measure in metrics for measure, _, _ in _SHOWN)
    ]


def _cells(metrics: Mapping[str, float]) -> tuple[Cell, ...]:
    values = ((metrics.get(name), shown) for name, _, shown in _SHOWN)
    return tuple(Cell(_NOT_TOLD if v is None else shown(v), v) for v, shown in values)
