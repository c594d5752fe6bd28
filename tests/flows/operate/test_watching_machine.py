"""Whatever happens to an alias, and whenever a listener dies: each change that is seen starts once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from made_registry import Place
from prefect_hone.flows.operate.rules import Kind
from prefect_hone.flows.operate.watching import Hint

HINT = Hint(Kind.ALIAS, "digits-a", name="candidate")
KEY = ("digits-a", "candidate")


class Died(BaseException):
    """Ends a listener after Prefect's answer and before the note of it."""


class Aliases(RuleBasedStateMachine):
    """One alias, a listener that may die, and what should have been started."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hone-watching-"))
        self.place = Place(self.folder)
        self.place.watcher.begin()
        for _ in range(3):
            self.place.registry.create("digits-a")
        self.dealt_with: str | None = None
        self.expected: list[str] = []

    def noticed(self) -> None:
        now = self.place.registry.aliases.get(KEY)
        if now is not None and now != self.dealt_with:
            self.expected.append(now)
        self.dealt_with = now

    @rule(version=st.sampled_from("123"))
    def set(self, version: str) -> None:
        self.place.registry.aliases[KEY] = version

    @rule()
    def delete(self) -> None:
        self.place.registry.aliases.pop(KEY, None)

    @rule(times=st.integers(1, 3))
    def event(self, times: int) -> None:
        for _ in range(times):
            self.place.watcher.look(HINT)
        self.noticed()

    @rule()
    def poll(self) -> None:
        self.place.watcher.poll()
        self.noticed()

    @rule(polls=st.booleans())
    def die(self, polls: bool) -> None:
        def die() -> None:
            raise Died

        self.place.prefect.after = die
        before = self.dealt_with
        started = len(self.place.prefect.runs)
        try:
            _ = self.place.watcher.poll() if polls else self.place.watcher.look(HINT)
        except Died:
            self.noticed()
        else:
            self.noticed()
            assert before == self.dealt_with or self.dealt_with is None
        assert len(self.place.prefect.runs) - started <= 1
        self.restart()

    @rule()
    def restart(self) -> None:
        registry, prefect = self.place.registry, self.place.prefect
        prefect.after = None
        self.place.state.close()
        self.place = Place(self.folder, registry, prefect)
        self.place.watcher.begin()

    @invariant()
    def each_change_was_started_once(self) -> None:
        assert [p["version"] for p in self.place.prefect.started()] == self.expected

    def teardown(self) -> None:
        self.place.state.close()
        shutil.rmtree(self.folder)


Aliases.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
TestAliases = pytest.mark.timeout(300)(Aliases.TestCase)
