"""What may happen to the champion of one model, in any order; whatever ended it, the ledger tells it.

The machine works on a `World`: a stand-in for MLflow's registry within this process
(`tests/tasks/tracking/test_ledger_machine.py`), or a real server and processes that are really killed
(`tests/benchmarks/registry_truth.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prefect_hone.tasks.tracking.ledger import Event
from prefect_hone.tasks.tracking.registry import Promotable, promote
from prefect_hone.tasks.tracking.rollback import history, repair, rollback

End = Literal["done", "refused", "killed"]
Move = tuple[str | None, str | None, bool]


class World(Protocol):
    """A registry, and what may be done to it.

    Attributes:
        uri: The registry.
        model: The registered model that everything is about.
        moved: Every change of the champion, in order, and whether it was made by hand: the model
            that the ledger must equal.
    """

    uri: str
    model: str
    moved: list[Move]

    def asked(self, content: int) -> Promotable:
        """A promotion of a logged model with this content."""

    def do(self, work: Callable[[], object], changes: int | None) -> End:
        """Let a process of Hone's do something, and kill it after so many changes of the registry;
        None: never. `refused`: it was told that it asked for what can't be.
        """

    def move_by_hand(self, version: str | None) -> None:
        """Move the champion past Hone, or delete the alias."""

    def alias(self, name: str) -> str | None:
        """The version that has an alias."""

    def versions(self) -> dict[str, str]:
        """The digest of each version."""

    def close(self) -> None:
        """Give back what it took."""


class LedgerMachine(RuleBasedStateMachine):
    """A subclass says in which world; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.uri, self.model = self.world.uri, self.world.model
        self.contents = 0

    def make_world(self) -> World:
        raise NotImplementedError

    @property
    def champion(self) -> str | None:
        return self.world.alias("champion")

    @rule(changes=st.none() | st.integers(0, 9), back=st.integers(0, 2))
    def promote(self, changes: int | None, back: int) -> None:
        """A new model, or one that was there; killed after so many changes, or not."""
        if back == 0 or self.contents == 0:
            self.contents += 1
        asked = self.world.asked(max(1, self.contents - back))
        if self.world.do(lambda: promote(self.uri, asked), changes) == "done":
            assert self.champion is not None
            assert self.world.versions()[self.champion] == asked.digest

    @precondition(lambda self: self.world.versions())
    @rule(changes=st.none() | st.integers(0, 6), version=st.none() | st.integers(1, 6))
    def rollback(self, changes: int | None, version: int | None) -> None:
        """To the champion before, or to any version."""
        asked = None if version is None else str(version)
        end = self.world.do(lambda: rollback(self.uri, self.model, asked, "r", "bob"), changes)
        assert end != "done" or version is None or self.champion == asked

    @precondition(lambda self: self.world.versions())
    @rule(version=st.none() | st.integers(1, 4))
    def by_hand(self, version: int | None) -> None:
        """Somebody moves the alias past Hone, or deletes it; Hone sees it at its next look."""
        repair(self.uri, self.model)
        if version is None or str(version) in self.world.versions():
            self.world.move_by_hand(None if version is None else str(version))
        repair(self.uri, self.model)

    @rule(changes=st.none() | st.integers(0, 3))
    def repair(self, changes: int | None) -> None:
        self.world.do(lambda: repair(self.uri, self.model), changes)

    @invariant()
    def each_content_has_one_version(self) -> None:
        held = list(self.world.versions().values())
        assert len(held) == len(set(held))

    @invariant()
    def the_ledger_is_true(self) -> None:
        """It says what happened, in order; what a kill left open may be missing at the end."""
        told = self._told()
        assert told == self.world.moved[: len(told)]
        assert len(self.world.moved) - len(told) <= 1

    def _told(self) -> list[Move]:
        records = [entry.record for entry in history(self.uri, self.model)]
        return [(r.before, r.after, r.event is Event.OBSERVED) for r in records]

    @rule()
    def look(self) -> None:
        """After a repair, nothing is missing."""
        repair(self.uri, self.model)
        entries = history(self.uri, self.model)
        assert self._told() == self.world.moved
        assert repair(self.uri, self.model) == []
        previous = self.world.alias("previous")
        if len(entries) == 1:
            assert previous is None
        elif entries and entries[-1].record.event is Event.DONE and entries[-1].record.before:
            assert previous == entries[-1].record.before

    def teardown(self) -> None:
        self.look()
        self.world.close()
