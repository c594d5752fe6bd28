"""Reconcile: the registry against what the rules should have started, and against the ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...recipe.errors import HoneError, ServerUnreachable
from ...tasks.tracking.ledger import Entry
from ...tasks.tracking.registry_view import RegistryView
from ...tasks.tracking.rollback import history, repair
from ..engine.events import champion_changed
from ..engine.settings import Settings
from .listener_state import ListenerState
from .rules import Rule, are_default, rules_of_parameter
from .starting import PrefectStarter
from .watching import Report, Watcher

_TURN = 60.0  # s that a repair waits for a promotion that goes on


@dataclass(frozen=True)
class Reconciled:
    """What reconciling found.

    Attributes:
        report: What the rules had missed.
        entries: What was entered in ledgers, by model.
        problems: What could not be done, and why.
    """

    report: Report
    entries: tuple[tuple[str, Entry], ...]
    problems: tuple[str, ...]

    @property
    def text(self) -> str:
        started, entries = self.report.started, self.entries
        lines = [f"started {len(started)} that had been missed, entered {len(entries)} changes"]
        lines += [f"{start.label}: {start.deployment}" for start in started]
        lines += [f"{model}: {entry.record.sentence}" for model, entry in entries]
        return "\n".join([*lines, *self.problems])


def reconcile_registry(rules: str, settings: Settings) -> Reconciled:
    """Start what was missed, and enter in the ledgers what was changed past Hone.

    Args:
        rules: As the flow's parameter has them; empty: those of the worker.
        settings: Locations of the registry and of what was seen.

    Raises:
        InputError: The rules have a mistake, or name a deployment that does not exist.
        ServerUnreachable: MLflow or Prefect does not answer.
    """
    read = rules_of_parameter(rules)
    registry = RegistryView(settings.tracking)
    report = _start_missed(read, registry, settings)
    entries, problems = _repair_ledgers(registry, settings.tracking)
    return Reconciled(report, tuple(entries), (*report.problems, *problems))


def _start_missed(rules: Sequence[Rule], registry: RegistryView, settings: Settings) -> Report:
    starter = PrefectStarter()
    if not are_default(rules):
        starter.check(rules)
    state = ListenerState(settings.listener)
    try:
        return Watcher(rules, registry, starter, state).poll()
    finally:
        state.close()


def _repair_ledgers(
    registry: RegistryView, tracking: str
) -> tuple[list[tuple[str, Entry]], list[str]]:
    """Finish what dead promotions left, and enter aliases that were moved past Hone."""
    found: list[tuple[str, Entry]] = []
    problems: list[str] = []
    for model in registry.with_ledger():
        for alias in sorted({entry.record.alias for entry in history(tracking, model)}):
            try:
                entries = repair(tracking, model, alias, wait=_TURN)
            except ServerUnreachable:
                raise
            except HoneError as error:
                problems.append(f"{model}: {error}")
                continue
            for entry in entries:
                champion_changed(model, entry.record)
                found.append((model, entry))
    return found, problems
