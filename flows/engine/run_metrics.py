"""What runs count, for Prometheus: kept in `HONE_HOME`, because the process of a run is soon gone.

Each run adds its counts to those of the runs before it, under a lock. From that file they reach
Prometheus in three ways: `/metrics` of a listener with the same `HONE_HOME`, a file for the
collector `textfile` of the node exporter, and a push gateway (`metrics_export.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...ray_workers.store.file_lock import locked
from ...ray_workers.store.whole_files import replace_file
from ...recipe.errors import HoneError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

FILE = "run-metrics.json"
_LOCK = 10.0  # s that a run waits for others to add theirs

log = logging.getLogger("hone")

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True)
class Family:
    """A metric: its name without `_total`, its kind, its labels, and its help."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


RUNS = Family("hone_runs", "counter", ("flow", "recipe", "state"),
              "Flow runs that ended, by the name of the state that they ended in.")  # fmt: skip
SECONDS = Family("hone_run_seconds", "counter", ("flow", "recipe"),
                 "Time that the flow runs of hone_runs_total took (s).")  # fmt: skip
STEPS = Family("hone_steps", "counter", ("recipe", "step", "result"),
               "Steps: kept (their result was in the store), computed, or failed.")  # fmt: skip
STEP_SECONDS = Family("hone_step_seconds", "counter", ("recipe", "step"),
                      "Time that the computed steps took (s).")  # fmt: skip
GATES = Family("hone_gates_failed", "counter", ("recipe", "metric"),
               "Gates that a candidate did not meet.")  # fmt: skip
CHANGES = Family("hone_champion_changes", "counter", ("model", "action"),
                 "Moves of an alias: promote, approval, rollback, or past-hone.")  # fmt: skip
ENDED = Family("hone_run_last_end_timestamp_seconds", "gauge", ("flow", "recipe"),
               "When the last flow run ended.")  # fmt: skip
SUCCEEDED = Family("hone_run_last_success_timestamp_seconds", "gauge", ("flow", "recipe"),
                   "When the last flow run completed.")  # fmt: skip
CHANGED = Family("hone_champion_changed_timestamp_seconds", "gauge", ("model", "alias"),
                 "When the alias was last moved.")  # fmt: skip
DROP = Family("hone_winner_quality_drop", "gauge", ("flow", "recipe"),
              "Quality that the last winner lost, in the metric's unit.")  # fmt: skip
LATENCY = Family("hone_winner_latency_seconds", "gauge", ("flow", "recipe"),
                 "Median time of a call of the last winner (s).")  # fmt: skip
SPEEDUP = Family("hone_winner_speedup_ratio", "gauge", ("flow", "recipe"),
                 "How many times faster than PyTorch eager the last winner is.")  # fmt: skip
FAMILIES = {f.name: f for f in (
    RUNS, SECONDS, STEPS, STEP_SECONDS, GATES, CHANGES, ENDED, SUCCEEDED,
    CHANGED, DROP, LATENCY, SPEEDUP)}  # fmt: skip

#: A metric's name, and the values of its labels.
Series = tuple[str, tuple[str, ...]]


@dataclass
class Counted:
    """What one run counts.

    Attributes:
        added: By how much counters grow.
        put: What gauges are now.
    """

    added: dict[Series, float] = field(default_factory=dict)
    put: dict[Series, float] = field(default_factory=dict)

    def add(self, family: Family, *labels: str, by: float = 1.0) -> None:
        key = (family.name, labels)
        self.added[key] = self.added.get(key, 0.0) + by

    def set(self, family: Family, *labels: str, to: float) -> None:
        self.put[family.name, labels] = to

    def ended(self, flow: str, recipe: str, state: str, well: bool, seconds: float) -> None:
        """The run ended.

        Args:
            flow: Its flow.
            recipe: Its recipe; empty for a flow without one, or if it could not be read.
            state: Name of the state.
            well: Whether the state is one of success.
            seconds: How long it took (s).
        """
        self.add(RUNS, flow, recipe, state)
        self.add(SECONDS, flow, recipe, by=seconds)
        self.set(ENDED, flow, recipe, to=time.time())
        if well:
            self.set(SUCCEEDED, flow, recipe, to=time.time())


class RunMetrics:
    """The counts of all runs with one `HONE_HOME`.

    Args:
        home: `HONE_HOME`.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        self._locks = home / "locks"

    def read(self) -> dict[Series, float]:
        """All values; none if there is no file yet, or if it is damaged."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return {(str(name), tuple(map(str, labels))): float(value)
                    for name, labels, value in kept}  # fmt: skip
        return {}

    def add(self, counted: Counted) -> None:
        """Add what a run counts.

        Raises:
            OSError: The file can't be written.
            TimeoutError: Others hold it for too long.
        """
        self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._locks / "metrics", lambda: None, _LOCK):
            values = self.read()
            for series, by in counted.added.items():
                values[series] = values.get(series, 0.0) + by
            values.update(counted.put)
            rows = [[name, list(labels), value] for (name, labels), value in sorted(values.items())]
            replace_file(self._file, json.dumps(rows).encode())

    def collect(self) -> Iterator[Metric]:
        """All values, as Prometheus's client takes them."""
        return families(self.read())

    def describe(self) -> Iterable[Metric]:
        """Nothing: the client would read the file only to learn names."""
        return ()


def families(values: Mapping[Series, float]) -> Iterator[Metric]:
    """Values as metrics of Prometheus's client; those of another version of Hone are left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for family in FAMILIES.values():
        made: CounterMetricFamily | GaugeMetricFamily
        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        made = kinds[family.kind](family.name, family.help, labels=family.labels)
        for (name, labels), value in values.items():
            if name == family.name and len(labels) == len(family.labels):
                made.add_metric(list(labels), value)
        yield made


def keep(counted: Counted) -> None:
    """Add counts to those in `HONE_HOME`, and export them; a run never fails for them."""
    from .metrics_export import export
    from .settings import Settings

    try:
        settings = Settings.from_environment()
        metrics = RunMetrics(settings.home)
        metrics.add(counted)
        export(metrics, settings.home)
    except (OSError, TimeoutError, HoneError) as error:
        log.warning("the run's metrics are not kept: %s", error)
