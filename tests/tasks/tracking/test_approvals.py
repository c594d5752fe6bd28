"""An approval: asked for with what it is about, and refused when any of it has changed."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.tracking import approvals, names
from prefect_hone.tasks.tracking.approvals import approve, reject, request_approval
from prefect_hone.tasks.tracking.registry import promote, register
from prefect_hone.tasks.tracking.rollback import history

from ...support.logged_models import aliases, plain, store


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    made = store(databases, tmp_path)
    mlflow.set_tracking_uri(made)
    return made


def tags(uri: str, version: str) -> dict[str, str]:
    return dict(mlflow.MlflowClient(uri).get_model_version("wine", version).tags)


def test_a_dry_run_registers_and_moves_nothing(uri: str, tmp_path: Path) -> None:
    asked = plain(uri, tmp_path, "a")
    made = register(uri, asked, {names.DRY_RUN: "would move champion"})
    assert (made.version, made.new, made.current) == ("1", True, None)
    assert aliases(uri) == {}
    assert tags(uri, "1")[names.DRY_RUN] == "would move champion"
    assert not register(uri, asked).new, "the same bytes are one version"
    assert history(uri, "wine") == []


def test_it_is_asked_for_and_given(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    made = request_approval(uri, plain(uri, tmp_path, "b"))
    assert (made.version, made.current) == ("2", "1")
    assert aliases(uri)["champion"] == "1"
    assert tags(uri, "2")[names.APPROVAL] == "requested"

    entry = approve(uri, "wine", "2", who="ada", reason="the table convinces")
    assert aliases(uri) == {"champion": "2", "previous": "1"}
    assert (entry.record.who, entry.record.before, entry.record.after) == ("ada", "1", "2")
    assert tags(uri, "2")[names.APPROVAL].startswith("approved by ada")
    assert [e.record.after for e in history(uri, "wine")] == ["1", "2"]
    for again in (approve, reject):
        with pytest.raises(InputError, match="is the champion already"):
            again(uri, "wine", "2", who="ada", reason="again")


def test_it_is_refused_when_what_it_was_about_has_changed(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    request_approval(uri, plain(uri, tmp_path, "b"))
    promote(uri, plain(uri, tmp_path, "c"))
    with pytest.raises(InputError, match="when version 1 was the champion; now it is version 3"):
        approve(uri, "wine", "2", who="ada", reason="late")
    with pytest.raises(InputError, match="nobody asked for an approval"):
        approve(uri, "wine", "1", who="ada", reason="no request")
    with pytest.raises(InputError, match="not there"):
        approve(uri, "wine", "9", who="ada", reason="no version")
    with pytest.raises(InputError, match="needs a reason"):
        approve(uri, "wine", "2", who="ada", reason=" ")
    reject(uri, "wine", "2", who="bob", reason="another won meanwhile")
    assert aliases(uri)["champion"] == "3"


def test_what_was_rejected_stays_so(uri: str, tmp_path: Path) -> None:
    request_approval(uri, plain(uri, tmp_path, "a"))
    with pytest.raises(InputError, match="needs a reason"):
        reject(uri, "wine", "1", who="bob", reason="")
    reject(uri, "wine", "1", who="bob", reason="the worst group lost too much")
    assert tags(uri, "1")[names.APPROVAL] == "rejected by bob: the worst group lost too much"
    for again in (approve, reject):
        with pytest.raises(InputError, match="was rejected by bob"):
            again(uri, "wine", "1", who="ada", reason="good")
    assert aliases(uri) == {}
    with pytest.raises(InputError, match="has no model beer"):
        approve(uri, "beer", "1", who="ada", reason="good")


def test_it_is_refused_after_its_time(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_approval(uri, plain(uri, tmp_path, "a"), days=2)
    monkeypatch.setattr(approvals.time, "time", lambda real=approvals.time.time: real() + 3 * 86400)
    with pytest.raises(InputError, match="had 2 days, and they are over"):
        approve(uri, "wine", "1", who="ada", reason="late")
    reject(uri, "wine", "1", who="bob", reason="nobody looked at it in time")
    assert tags(uri, "1")[names.APPROVAL].startswith("rejected by bob")
    assert aliases(uri) == {}


def test_it_is_refused_when_the_tags_are_not_those_of_the_request(uri: str, tmp_path: Path) -> None:
    request_approval(uri, plain(uri, tmp_path, "a"))
    mlflow.MlflowClient(uri).set_model_version_tag("wine", "1", names.DIGEST, "0" * 64)
    with pytest.raises(InputError, match="its digest is another"):
        approve(uri, "wine", "1", who="ada", reason="good")
    assert aliases(uri) == {}
