"""Events go through processes as they are, and a workspace has words for the usual ones."""

from __future__ import annotations

import pickle
from pathlib import Path

from prefect_hone.ray_workers.events import Begun, EpochEnd, Event, Metric, Note, Progress
from prefect_hone.ray_workers.workspace import Workspace
from prefect_hone.recipe.factories import Allowed

ALL: list[Event] = [
    Begun(),
    Progress(1, 2, "half"),
    Metric("train/loss", 0.5, 3, 1000),
    Note("look"),
    EpochEnd("epoch 1/2: loss 0.5", 1, 2),
]


def test_events_survive_pickling_and_are_values() -> None:
    for event in ALL:
        again = pickle.loads(pickle.dumps(event))
        assert again == event
        assert hash(again) == hash(event)


def test_a_workspace_tells(tmp_path: Path) -> None:
    told: list[Event] = []
    work = Workspace(
        spec={}, inputs={}, scratch=tmp_path, report=told.append, allowed=Allowed(),
        store_url="", cache_url="", key="k",
    )  # fmt: skip
    work.note("look")
    work.progress(1, 4)
    assert told == [Note("look"), Progress(1, 4)]
