"""Today's champion for a run: looked up only if it is compared with, and put into the store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import made_runs as made
import mlflow
import pytest
from made_runs import recipe
from prefect_hone.flows.engine.champion_today import FoundChampion, find_champion
from prefect_hone.flows.engine.session import Session
from prefect_hone.tasks.todays_champion import TodaysChampion
from prefect_hone.tasks.tracking.registry import Promotable, promote

from ...support.logged_models import logged, store, times

CHAMPION = TodaysChampion(model="wine", alias="champion", version="3")
BESIDE = {"gates": [{"metric": "latency.ratio_to_champion", "at_least": 1}]}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return made.session(tmp_path / "home")


def with_champion(session: Session, databases: Path, folder: Path, candidate: str) -> Session:
    """A session whose registry has a champion that opens in ONNX Runtime."""
    uri = store(databases, folder / "registry")
    mlflow.set_tracking_uri(uri)
    entry = times(folder, 2)
    sender, model_id = logged(uri, folder, entry)
    tags = {**entry.tags, "hone.candidate": candidate}
    promote(
        uri,
        Promotable(model="wine", alias="champion", model_id=model_id, sha256=entry.sha256,
                   files=sender.files[entry.ref], recipe_digest="d", tags=tags),
    )  # fmt: skip
    settings = dataclasses.replace(session.settings, tracking=uri)
    return dataclasses.replace(session, settings=settings)


def test_a_recipe_that_compares_with_none_asks_no_registry(session: Session) -> None:
    assert find_champion(recipe(), session) is None, "which could not be opened"


def test_a_registry_that_can_not_be_opened_is_a_reason(session: Session) -> None:
    found = find_champion(recipe(**BESIDE), session)
    assert found is not None
    assert found.artifact is None
    assert found.today.unmeasured is not None


def test_its_artifact_comes_into_the_store(
    session: Session, databases: Path, tmp_path: Path
) -> None:
    there = with_champion(session, databases, tmp_path, "times2@onnxruntime-cpu")
    seen = find_champion(recipe(**BESIDE), dataclasses.replace(there, dry=True))
    assert seen is not None
    assert seen.artifact is not None
    assert not there.store.holds(seen.artifact), "a plan only looks"
    found = find_champion(recipe(**BESIDE), there)
    assert found is not None
    assert found.artifact == seen.artifact
    assert there.store.holds(found.artifact)
    assert (found.runtime, found.gpu, found.today.version) == ("onnxruntime", False, "1")
    entrant = found.entrant("handle")
    assert (entrant.version, entrant.model) == ("1", ("handle", "model"))
    assert entrant.digest == found.today.digest
    assert found.given.outputs == {"model": found.artifact}


def test_a_candidate_of_the_same_bytes_is_found() -> None:
    (target,) = recipe().targets
    held = made.artifact("a")
    found = FoundChampion(CHAMPION, held, "onnxruntime")
    others = [("b", made.artifact("b").sha256, target)]
    assert found.same_as(others) is None
    assert found.same_as([*others, ("a", held.sha256, target)]) == "a"
    assert FoundChampion(CHAMPION).same_as([("a", held.sha256, target)]) is None
