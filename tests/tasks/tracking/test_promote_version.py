"""A registered version becomes the champion by its evidence, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import HoneError, InputError
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.approvals import request_approval
from prefect_hone.tasks.tracking.promote_version import promote_version
from prefect_hone.tasks.tracking.registry import Promotable, promote, register

from ...support.logged_models import aliases, place_of, plain, store

PASSED = {"metric": "quality.drop", "value": 0.0, "passed": True}


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    made = store(databases, tmp_path)
    mlflow.set_tracking_uri(made)
    return made


def with_evidence(asked: Promotable, *gates: dict[str, object]) -> Promotable:
    tags = {names.VERDICT: json.dumps(gates), names.PARENT_RUN: "1" * 32}
    return asked.model_copy(update={"tags": tags})


def promoted(uri: str, version: str) -> None:
    promote_version(uri, "wine", version, who="ada", reason="it is time")


def test_by_its_evidence(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    register(uri, with_evidence(plain(uri, tmp_path, "b"), PASSED))
    promoted(uri, "2")
    assert aliases(uri) == {"champion": "2", "previous": "1"}


def test_nothing_without_evidence(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    register(uri, plain(uri, tmp_path, "b"))
    failed = {"metric": "latency.p50_ms", "value": 30.0, "passed": False}
    register(uri, with_evidence(plain(uri, tmp_path, "c"), PASSED, failed))
    missing = {"metric": "flips.rate", "value": None, "passed": True}
    register(uri, with_evidence(plain(uri, tmp_path, "d"), missing))
    client = mlflow.MlflowClient(uri)
    client.create_model_version("wine", source=str(tmp_path))
    for version, said in {
        "2": "lacks the tag hone.verdict",
        "3": "gate latency.p50_ms failed",
        "4": "gate flips.rate has no value",
        "5": "lacks the tag hone.digest",
        "6": "not there",
    }.items():
        with pytest.raises(InputError, match=said):
            promoted(uri, version)
    client.set_model_version_tag("wine", "3", names.VERDICT, "[[[")
    with pytest.raises(InputError, match="verdict can't be read"):
        promoted(uri, "3")
    assert aliases(uri) == {"champion": "1"}


def test_nothing_whose_files_were_changed(uri: str, tmp_path: Path) -> None:
    asked = with_evidence(plain(uri, tmp_path, "a"), PASSED)
    register(uri, asked)
    victim = next(p for p in place_of(uri, asked.model_id).rglob("*") if p.is_file())
    victim.chmod(0o644)
    victim.write_bytes(b"something else")
    with pytest.raises(HoneError, match="does not hold what was measured"):
        promoted(uri, "1")
    assert aliases(uri) == {}


def test_what_was_compared_with_another_champion_is_refused(uri: str, tmp_path: Path) -> None:
    first = plain(uri, tmp_path, "a")
    promote(uri, first)
    against_1 = {**PASSED, "metric": "latency.ratio_to_champion", "champion": "1",
                 "alias": "champion"}  # fmt: skip
    against_none = {**against_1, "value": None, "champion": "none"}
    register(uri, with_evidence(plain(uri, tmp_path, "b"), against_1))
    register(uri, with_evidence(plain(uri, tmp_path, "c"), against_none))
    with pytest.raises(InputError, match="of that time, no version; now it is version 1"):
        promoted(uri, "3")
    promoted(uri, "2")
    assert aliases(uri)["champion"] == "2"
    register(uri, with_evidence(plain(uri, tmp_path, "d"), against_1))
    with pytest.raises(InputError, match="of that time, version 1; now it is version 2"):
        promoted(uri, "4")


def test_a_first_champion_needs_none_to_compare_with(uri: str, tmp_path: Path) -> None:
    nobody = {"metric": "latency.ratio_to_champion", "value": None, "passed": True,
              "champion": "none", "alias": "champion"}  # fmt: skip
    register(uri, with_evidence(plain(uri, tmp_path, "a"), nobody))
    promoted(uri, "1")
    assert aliases(uri) == {"champion": "1"}


def test_a_run_does_not_replace_a_champion_that_it_did_not_measure(
    uri: str, tmp_path: Path
) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    stale = plain(uri, tmp_path, "b").model_copy(update={"compared_with": "none"})
    with pytest.raises(InputError, match="no version; now it is version 1; nothing was promoted"):
        promote(uri, stale)
    with pytest.raises(InputError, match="run the recipe again"):
        request_approval(uri, stale)
    assert aliases(uri) == {"champion": "1"}
    promote(uri, stale.model_copy(update={"compared_with": "1"}))
    assert aliases(uri)["champion"] == "2"
