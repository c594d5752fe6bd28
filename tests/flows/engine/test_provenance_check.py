"""Each item of a statement of provenance is compared with the registry, the store, and this place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import FP32, MEASURED, benchmarked, recipe, results, run, session, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.provenance_check import Kind, Provenance, Result, recomputed
from prefect_hone.flows.engine.reporting import record_provenance, report_of
from prefect_hone.flows.engine.runner import Runner
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.recipe.schema import digest_of
from prefect_hone.tasks.tracking.statements import PROVENANCE


class Place:
    """A store with one artifact that a step wrote, and a statement that names it."""

    def __init__(self, folder: Path) -> None:
        started = run(folder)
        started.session = session(folder)
        started.runner = Runner(started.session, started.tracker, None)
        found = results(recipe(), usual(fp32=0.0, int8=0.01), benchmarked(MEASURED))
        report = report_of(started, found, conclude(recipe(), "r1", found))
        record_provenance(started, report, found)
        self.said: dict[str, Any] = json.loads(started.tracker.told_texts(FP32)[PROVENANCE])
        self.store: Store = started.session.store
        self.kept = self._put(folder / "made")
        self.key = "a" * 64
        record = {"outputs": {"weights": self.kept.model_dump(mode="json")}}
        self.store.write_record(f"steps/train/{self.key}.json", record)
        products = self._details["byproducts"]
        products[:] = [p for p in products if p["name"] != "train/weights"]
        for product in products:  # which the made results name by their steps
            product["annotations"]["step_key"] = "e" * 64
        products.append(self.product(self.kept.sha256))
        self.subject: str = self.said["subject"][0]["digest"]["sha256"]

    def _put(self, folder: Path) -> Artifact:
        folder.mkdir()
        (folder / "weights").write_text("1 2 3")
        return self.store.put(folder, "weights")

    @property
    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = self.said["predicate"]["runDetails"]
        return details

    def product(self, sha256: str) -> dict[str, Any]:
        step = {"annotations": {"step_key": self.key}}
        return {"name": "train/weights", "digest": {"sha256": sha256}, **step}

    def check(self, registered: str | None = None) -> Provenance:
        return recomputed("r1", json.dumps(self.said), self.subject, registered, self.store)

    def result(self, kind: Kind, name: str) -> Result:
        return next(i.result for i in self.check().items if (i.kind, i.name) == (kind, name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def place(made: Place) -> Place:
    other = copy.copy(made)
    other.said = copy.deepcopy(made.said)
    return other


def test_each_item_is_told(place: Place) -> None:
    found = place.check(recipe().digest())
    results = {(i.kind, i.name): i.result for i in found.items}
    assert results[Kind.ARTIFACT, FP32] is Result.HOLDS
    assert results[Kind.RECIPE, "wine"] is Result.HOLDS
    assert results[Kind.STEP, "train/weights"] is Result.HOLDS
    assert results[Kind.DATA, "samples"] is Result.UNKNOWN, "the store doesn't have it"
    assert results[Kind.LIBRARY, "torch"] is Result.HOLDS
    assert results[Kind.LIBRARY, "prefect-hone"] is Result.HOLDS
    assert results[Kind.MACHINE, "processor"] is Result.DIFFERS
    assert found.holds, "another machine is no error"
    holds = sum(r is Result.HOLDS for r in results.values())
    assert f"{holds} of {len(results)} items hold, 1 of this environment" in found.sentence
    assert "can't be looked at" in found.sentence


def test_what_differs_is_an_error(place: Place) -> None:
    place.subject = "b" * 64
    assert place.result(Kind.ARTIFACT, FP32) is Result.DIFFERS
    assert not place.check().holds
    assert "1 differs" in place.check().sentence


def test_a_recipe_that_was_changed_in_the_statement_differs(place: Place) -> None:
    outside = place.said["predicate"]["buildDefinition"]["externalParameters"]
    outside["recipe"]["train"]["epochs"] = 3
    assert place.result(Kind.RECIPE, "wine") is Result.DIFFERS
    outside["recipe"] = {"name": "wine", "later": "?"}
    outside["recipe_digest"] = digest_of(outside["recipe"])
    assert place.result(Kind.RECIPE, "wine") is Result.HOLDS, "a recipe of another version of Hone"
    found = place.check("c" * 64)
    assert not found.holds, "the registry says something else"


def test_a_library_that_is_not_here_is_told_and_no_error(place: Place) -> None:
    here = place.said["predicate"]["buildDefinition"]["resolvedDependencies"]
    here.append({"name": "odd", "uri": "pkg:pypi/odd-library@1.0"})
    here.append({"name": "source", "uri": "git+https://example.org@abc"})
    found = place.check()
    said = {i.name: i.said for i in found.items}
    assert said["odd-library"] == "not installed here, 1.0 stated"
    assert "not kept" in said["source"]
    assert found.holds


def test_artifacts_on_the_way_are_read_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (file,) = (Path(place.store.root) / "artifacts" / place.kept.sha256).iterdir()
    file.chmod(0o600)
    file.write_text("1 2 4")
    assert place.result(Kind.STEP, "train/weights") is Result.DIFFERS
    file.unlink()
    file.parent.rmdir()
    assert place.result(Kind.STEP, "train/weights") is Result.HOLDS, "the signed record names it"
    place.said["predicate"]["runDetails"]["byproducts"][-1] = place.product("d" * 64)
    assert place.result(Kind.STEP, "train/weights") is Result.DIFFERS, "and nothing else"


def forged_digest(said: dict[str, Any]) -> None:
    said["subject"][0]["digest"]["sha256"] = "../../../etc"


def forged_key(said: dict[str, Any]) -> None:
    said["predicate"]["runDetails"]["byproducts"][0]["annotations"]["step_key"] = "*/../*"


def no_list(said: dict[str, Any]) -> None:
    said["subject"] = 3


def another_type(said: dict[str, Any]) -> None:
    said["predicateType"] = "https://example.org"


def too_many(said: dict[str, Any]) -> None:
    said["subject"] *= 6_000


@pytest.mark.parametrize("change", [forged_digest, forged_key, no_list, another_type, too_many])
def test_a_statement_of_somebody_else_is_not_followed(
    place: Place, change: Callable[[dict[str, Any]], None]
) -> None:
    change(place.said)
    found = place.check()
    assert not found.items
    assert "not a statement that this Hone can read" in found.sentence


@pytest.mark.parametrize("text", ["", "[" * 100_000, '"text"', "{}"])
def test_what_is_no_statement_is_told(place: Place, text: str) -> None:
    assert recomputed("r1", text, place.subject, None, place.store).why
