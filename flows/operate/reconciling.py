"""Reconcile: what the registry holds, against what the rules should have started."""

from __future__ import annotations

from dataclasses import dataclass

from ...tasks.tracking.registry_view import RegistryView
from ..engine.settings import Settings
from .listener_state import ListenerState
from .rules import rules_of_parameter
from .starting import PrefectStarter
from .watching import Started, Watcher


@dataclass(frozen=True)
class Reconciled:
    """What reconciling found.

    Attributes:
        started: What had been missed, and is started now.
        problems: What could not be started, and why.
        looked: How many versions, aliases and tags the rules watch.
    """

    started: tuple[Started, ...]
    problems: tuple[str, ...]
    looked: int

    @property
    def text(self) -> str:
        lines = [f"looked at {self.looked}, started {len(self.started)} that had been missed"]
        lines += [f"{started.label}: {started.deployment}" for started in self.started]
        return "\n".join([*lines, *self.problems])


def reconcile_registry(rules: str, settings: Settings) -> Reconciled:
    """Look through the registry, and start what was missed.

    Args:
        rules: As the flow's parameter has them.
        settings: Locations of the registry and of what was seen.

    Raises:
        InputError: The rules have a mistake, or name a deployment that does not exist.
        ServerUnreachable: MLflow or Prefect does not answer.
    """
    read = rules_of_parameter(rules)
    starter = PrefectStarter()
    starter.check(read)
    state = ListenerState(settings.listener)
    try:
        report = Watcher(read, RegistryView(settings.tracking), starter, state).poll()
    finally:
        state.close()
    return Reconciled(tuple(report.started), tuple(report.problems), report.looked)
