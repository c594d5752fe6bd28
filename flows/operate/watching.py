"""From what the registry holds to what has to be started: each change once, and none forgotten.

What a rule watches is an alias of a model, a tag of a version, or a version. Its state is what the
registry has there now, and the last state that was dealt with is kept. Another state is a change,
whoever saw it: an event that was delivered, or the poll that looks for lost ones. Changes are
numbered, and the number and the state make the key of the start. So a listener, another one, and a
poll elsewhere that see the same change ask Prefect for the same flow run.

What is in the registry when a rule is new counts as dealt with.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...recipe.errors import HoneError, ServerUnreachable
from ...tasks.tracking.registry_view import VersionSeen
from .listener_state import ListenerState
from .rules import Kind, Rule
from .sightings import UNSURE, Seen, Sightings
from .starting import Start, Starter

log = logging.getLogger("hone.listen")


class Registry(Protocol):
    """What is asked of the model registry."""

    def models(self) -> dict[str, dict[str, str]]: ...
    def versions(self, model: str) -> list[VersionSeen]: ...
    def version(self, model: str, version: str) -> VersionSeen | None: ...
    def alias(self, model: str, alias: str) -> VersionSeen | None: ...


@dataclass(frozen=True)
class Hint:
    """Where an event says that something happened."""

    kind: Kind
    model: str
    version: str = ""
    name: str = ""


@dataclass(frozen=True)
class Sighting:
    """What a rule watches, and what is there.

    Attributes:
        rule: The rule.
        model: The registered model.
        watched: What of it.
        state: What is there; empty: nothing.
        values: Of the placeholders.
    """

    rule: Rule
    model: str
    watched: str
    state: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        return _digest(self.rule.identity, self.model, self.watched)

    @property
    def label(self) -> str:
        """For people: `digits alias candidate`."""
        return re.sub(r"@\d+", "", f"{self.model} {self.watched}")

    def key(self, number: int) -> str:
        return f"hone:{self.subject}:{number}:{_digest(self.state)}"


@dataclass(frozen=True)
class Started:
    """A flow run that was started, for what, and its id."""

    deployment: str
    label: str
    flow_run: str


@dataclass
class Report:
    """What came of an event or of a poll.

    Attributes:
        started: What was started.
        problems: What could not be.
        looked: How many things were looked at.
    """

    started: list[Started] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    looked: int = 0


class Watcher:
    """Rules, a registry, and what was seen of it.

    Args:
        rules: The rules.
        registry: The model registry.
        starter: Starts deployments.
        state: Where what was seen is kept.
    """

    def __init__(
        self, rules: Sequence[Rule], registry: Registry, starter: Starter, state: ListenerState
    ) -> None:
        self.rules = tuple(rules)
        self._registry = registry
        self._starter = starter
        self._state = state
        self._sightings = Sightings(state)

    def begin(self) -> int:
        """Take what is in the registry now as dealt with, for rules that are new.

        Returns:
            How many rules are new.

        Raises:
            ServerUnreachable: MLflow does not answer.
        """
        with self._state.alone():
            known = self._sightings.rules()
            new = [rule for rule in self.rules if rule.identity not in known]
            if new:
                found = [s for s in self._all(new) if s.state]
                self._sightings.begin(
                    [rule.identity for rule in new],
                    [(s.rule.identity, s.model, s.watched, s.state) for s in found],
                )
            return len(new)

    def wants(self, hint: Hint) -> bool:
        """Whether a rule waits for such an event."""
        return any(_concerns(rule, hint) for rule in self.rules)

    def look(self, hint: Hint) -> Report:
        """Look where an event says that something happened, and start what has to be.

        Raises:
            ServerUnreachable: MLflow or Prefect does not answer.
        """
        report = Report()
        with self._state.alone():
            for rule in self.rules:
                if _concerns(rule, hint):
                    for sighting in self._where(rule, hint):
                        self._settle(sighting, report)
        return report

    def poll(self) -> Report:
        """Look at everything that rules watch, and start what has to be.

        Raises:
            ServerUnreachable: MLflow or Prefect does not answer.
        """
        self.begin()
        report = Report()
        with self._state.alone():
            there: set[tuple[str, str, str]] = set()
            for sighting in self._all(self.rules):
                there.add((sighting.rule.identity, sighting.model, sighting.watched))
                self._settle(self._now(sighting), report)
            for rule in self.rules:
                for model, watched in self._sightings.present(rule.identity):
                    if (rule.identity, model, watched) not in there:
                        self._settle(Sighting(rule, model, watched, ""), report)
        return report

    def _now(self, sighting: Sighting) -> Sighting:
        """A sighting of an alias that seems to have moved, read again: a poll takes a while."""
        rule, model, watched = sighting.rule, sighting.model, sighting.watched
        seen = self._sightings.get(rule.identity, model, watched)
        if rule.kind is not Kind.ALIAS or (seen is not None and seen.state == sighting.state):
            return sighting
        alias = sighting.values.get("alias")
        return (
            sighting
            if alias is None
            else next(self._where(rule, Hint(rule.kind, model, name=alias)))
        )

    def _settle(self, sighting: Sighting, report: Report) -> None:
        """Start what a sighting asks for, unless its state was dealt with."""
        report.looked += 1
        rule, place = sighting.rule, (sighting.rule.identity, sighting.model, sighting.watched)
        seen = self._sightings.get(*place)
        if seen is not None and seen.state == sighting.state:
            return
        if not sighting.state and seen is None:
            return
        try:
            number, is_new = self._number(sighting, seen)
            if is_new:
                if rule.kind is not Kind.VERSION:  # if this process dies now, Prefect knows more
                    self._sightings.put(*place, Seen(UNSURE, seen.number if seen else 0))
                found = self._starter.start(
                    Start(
                        deployment=rule.run,
                        parameters=rule.filled(sighting.values),
                        key=sighting.key(number),
                        subject=sighting.subject,
                        name=sighting.label,
                    )
                )
                report.started.append(Started(rule.run, sighting.label, found))
                log.info("started %s for %s", rule.run, sighting.label)
            self._sightings.put(*place, Seen(sighting.state, number))
        except ServerUnreachable:
            raise
        except HoneError as error:
            report.problems.append(f"{sighting.label}: {error}")
            log.warning("%s: %s", sighting.label, error)

    def _number(self, sighting: Sighting, seen: Seen | None) -> tuple[int, bool]:
        """The number of a change, and whether something is to be started for it."""
        mine = seen.number if seen is not None else 0
        if sighting.rule.kind is Kind.VERSION:
            return 1, bool(sighting.state)  # it happens once, so its key is always the same
        last, states = _last(self._starter.keys(sighting.rule.run, sighting.subject))
        if not sighting.state:
            return max(mine, last), False
        changed_since = seen is not None and mine >= last
        if _digest(sighting.state) in states and not changed_since:
            return last, False
        return max(mine, last) + 1, True

    def _where(self, rule: Rule, hint: Hint) -> Iterator[Sighting]:
        if rule.kind is Kind.ALIAS:
            yield _alias(rule, hint.model, hint.name, self._registry.alias(hint.model, hint.name))
            return
        version = self._registry.version(hint.model, hint.version)
        if version is not None:
            yield from _of_version(rule, hint.model, version)

    def _all(self, rules: Sequence[Rule]) -> Iterator[Sighting]:
        """Everything that is there of what rules watch."""
        for model, aliases in self._registry.models().items():
            about = [rule for rule in rules if rule.is_about(model)]
            if not about:
                continue
            versions = {version.version: version for version in self._registry.versions(model)}
            for rule in about:
                if rule.kind is Kind.ALIAS:
                    for alias in filter(rule.takes_alias, aliases):
                        yield _alias(rule, model, alias, versions.get(aliases[alias]))
                    continue
                for version in versions.values():
                    yield from _of_version(rule, model, version)


def _concerns(rule: Rule, hint: Hint) -> bool:
    if rule.kind is not hint.kind or not rule.is_about(hint.model):
        return False
    if rule.kind is Kind.ALIAS:
        return rule.takes_alias(hint.name)
    return rule.kind is Kind.VERSION or rule.name == hint.name


def _alias(rule: Rule, model: str, alias: str, version: VersionSeen | None) -> Sighting:
    if version is None:
        return Sighting(rule, model, f"alias {alias}", "")
    return Sighting(
        rule,
        model,
        f"alias {alias}",
        f"{version.version}@{version.created}",
        {"model": model, "version": version.version, "alias": alias},
    )


def _of_version(rule: Rule, model: str, version: VersionSeen) -> Iterator[Sighting]:
    values = {"model": model, "version": version.version}
    of = f"version {version.version}@{version.created}"
    if rule.kind is Kind.VERSION:
        yield Sighting(rule, model, of, str(version.created), values)
        return
    value = version.tags.get(rule.name)
    state = _digest(value) if value is not None and rule.takes_value(value) else ""
    values = {**values, "tag": rule.name, "value": value or ""}
    yield Sighting(rule, model, f"tag {rule.name} of {of}", state, values)


def _last(keys: Sequence[str]) -> tuple[int, set[str]]:
    """The number of the last change that something was started for, and its states.

    Two, if two machines saw different states at once.
    """
    states: dict[int, set[str]] = {}
    for key in keys:
        parts = key.split(":")
        if len(parts) == 4 and parts[2].isdigit():
            states.setdefault(int(parts[2]), set()).add(parts[3])
    last = max(states, default=0)
    return last, states.get(last, set())


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
