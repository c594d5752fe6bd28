"""Promotion: only what was measured, the alias last, and done twice without harm."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from prefect_hone import load_recipe
from prefect_hone.recipe.errors import HoneError, InputError, ServerUnreachable
from prefect_hone.recipe.registry_names import model_problem
from prefect_hone.tasks.tracking import away, ledger, names, registry
from prefect_hone.tasks.tracking.registered_bytes import held_at, verify
from prefect_hone.tasks.tracking.registry import promote
from prefect_hone.tasks.tracking.rollback import history, rollback

from ...support.logged_models import aliases, place_of, plain, store

CHANGES = (
    "create_registered_model", "create_model_version", "set_registered_model_alias",
    "delete_registered_model_alias",
)  # fmt: skip


@pytest.fixture
def uri(databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(away.time, "sleep", lambda _: None)
    made = store(databases, tmp_path)
    mlflow.set_tracking_uri(made)
    return made


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is changed in the registry, in order, but for the ledger."""
    done: list[str] = []

    def noting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def change(self: object, model: str, *rest: object, **more: object) -> object:
            result = real(self, model, *rest, **more)
            if not model.endswith(".ledger"):
                done.append(" ".join([name, *(str(r) for r in rest)]))
            return result

        return change

    for name in CHANGES:
        monkeypatch.setattr(
            mlflow.MlflowClient, name, noting(name, getattr(mlflow.MlflowClient, name))
        )
    return done


def failing(monkeypatch: pytest.MonkeyPatch, name: str, errors: list[BaseException | None]) -> None:
    """Let a change of the model, not of its ledger, fail so the next times."""
    real = getattr(mlflow.MlflowClient, name)

    def change(self: object, model: str, *rest: object, **more: object) -> object:
        if not model.endswith(".ledger") and errors and (error := errors.pop(0)) is not None:
            raise error
        return real(self, model, *rest, **more)

    monkeypatch.setattr(mlflow.MlflowClient, name, change)


def versions(uri: str) -> list[str]:
    return sorted(
        str(v.version) for v in mlflow.MlflowClient(uri).search_model_versions("name = 'wine'")
    )


def test_the_first_champion(uri: str, tmp_path: Path, changes: list[str]) -> None:
    asked = plain(uri, tmp_path, "a")
    promotion = promote(uri, asked)
    assert (promotion.version, promotion.new, promotion.previous) == ("1", True, None)
    assert changes == [
        "create_registered_model", "create_model_version", "set_registered_model_alias champion 1",
    ], "the alias moves last"  # fmt: skip
    version = mlflow.MlflowClient(uri).get_model_version("wine", "1")
    assert version.source == f"models:/{asked.model_id}"
    assert version.tags["hone.sha256"] == asked.sha256
    assert version.tags["hone.recipe_digest"] == "d1"
    assert version.tags["hone.candidate"] == "int8@onnxruntime-cpu"
    assert version.tags["hone.digest"] == asked.digest
    assert verify(uri, "wine", "@champion").holds
    (entry,) = history(uri, "wine")
    assert entry.record.evidence["hone.digest"] == asked.digest
    assert (entry.record.who, entry.record.before, entry.record.after) == ("ann", None, "1")


def test_descriptions_are_written_and_a_persons_own_is_left_alone(uri: str, tmp_path: Path) -> None:
    told = {"description": "of the version", "model_description": "of the model"}
    client = mlflow.MlflowClient(uri)
    promote(uri, plain(uri, tmp_path, "a").model_copy(update=told))
    assert client.get_model_version("wine", "1").description == "of the version"
    assert client.get_registered_model("wine").description == "of the model"
    client.update_registered_model("wine", "by a person")
    promote(uri, plain(uri, tmp_path, "a", "d2").model_copy(update=told))
    assert client.get_registered_model("wine").description == "by a person"
    client.update_registered_model("wine", "")
    promote(uri, plain(uri, tmp_path, "a", "d3").model_copy(update=told))
    assert client.get_registered_model("wine").description == "of the model"


@pytest.mark.parametrize(
    "file", ["MLmodel", "data/model.onnx", "hone-manifest.json", "data/more", "code/evil.py"]
)
def test_other_bytes_than_the_measured_ones_are_refused(
    uri: str, tmp_path: Path, file: str
) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    asked = plain(uri, tmp_path, "b", "d2")
    changed = place_of(uri, asked.model_id) / file
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("CHANGED")
    with pytest.raises(HoneError, match=r"nothing was promoted") as caught:
        promote(uri, asked)
    assert file in str(caught.value)
    assert caught.value.where == f"models:/{asked.model_id}"
    assert aliases(uri) == {"champion": "1"}
    assert versions(uri) == ["1"]


def test_a_model_that_is_gone_or_was_not_logged_is_refused(uri: str, tmp_path: Path) -> None:
    asked = plain(uri, tmp_path, "a")
    with pytest.raises(HoneError, match="other bytes"):
        promote(uri, asked.model_copy(update={"files": {}}))
    place_of(uri, asked.model_id).rename(tmp_path / "elsewhere")
    with pytest.raises(HoneError, match="other bytes"):
        promote(uri, asked)
    assert aliases(uri) == {}


def test_the_same_bytes_under_the_same_recipe_stay_as_they_are(
    uri: str, tmp_path: Path, changes: list[str]
) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    before = list(changes)
    again = promote(uri, plain(uri, tmp_path, "a"))
    assert (again.version, again.new, again.previous) == ("1", False, None)
    assert changes == before
    assert len(history(uri, "wine")) == 1


def test_a_champion_whose_files_were_changed_is_not_as_before(uri: str, tmp_path: Path) -> None:
    """Every file of it is compared, although its tags say that it is the same."""
    first = plain(uri, tmp_path, "a")
    promote(uri, first)
    (place_of(uri, first.model_id) / "MLmodel").write_text("evil")
    assert not verify(uri, "wine", "1").holds
    assert verify(uri, "wine", "1").changed == ("MLmodel",)
    again = promote(uri, plain(uri, tmp_path, "a"))
    assert (again.version, again.new) == ("2", True)
    assert aliases(uri) == {"champion": "2"}, "what was changed is not gone back to"
    assert names.TAMPERED in mlflow.MlflowClient(uri).get_model_version("wine", "1").tags
    assert verify(uri, "wine", "@champion").holds


@pytest.mark.parametrize("how", ["files", "logged model"])
def test_a_champion_whose_files_are_gone_is_told_and_replaced(
    uri: str, tmp_path: Path, how: str
) -> None:
    first = plain(uri, tmp_path, "a")
    promote(uri, first)
    if how == "files":
        shutil.rmtree(place_of(uri, first.model_id))
    else:
        mlflow.MlflowClient(uri).delete_logged_model(first.model_id)
    said = verify(uri, "wine", "@champion")
    if how == "files":
        assert said.sentence == (
            "version 1 of wine does not hold what was measured: its files are gone"
        )
    again = promote(uri, plain(uri, tmp_path, "a"))
    if not said.holds:
        assert (again.version, again.new) == ("2", True)
        assert aliases(uri) == {"champion": "2"}
    assert verify(uri, "wine", "@champion").holds
    if not said.holds:
        with pytest.raises(HoneError, match="version 1 of wine does not hold what was measured"):
            rollback(uri, "wine", "1", "back", "me")


NAMES = ["Müller 3", "a.b", "-x", "日本", "x" * 200, "it & that", "a=b+c", "ß~!$()*,;[]{}|<>"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_let_in_works_everywhere(uri: str, tmp_path: Path, name: str) -> None:
    assert model_problem(name) is None
    asked = plain(uri, tmp_path, "a").model_copy(update={"model": name, "alias": "Vv_1-ä"})
    assert promote(uri, asked).version == "1"
    again = promote(uri, asked)
    assert (again.version, again.new) == ("1", False)
    assert verify(uri, name, "@Vv_1-ä").holds
    assert len(history(uri, name)) == 1
    assert mlflow.artifacts.download_artifacts(
        f"models:/{name}@Vv_1-ä", dst_path=str(tmp_path / "got")
    )


@pytest.mark.parametrize(
    ("model", "alias"),
    [
        ("O'Neill", "champion"), ("..", "champion"), (".", "champion"), ("..a", "champion"),
        (" ", "champion"), ("", "champion"), ("a/b", "champion"), ("a:b", "champion"),
        ("a ", "champion"), ("x" * 300, "champion"), ("wine.ledger", "champion"),
        ('a"b', "champion"), ("a@b", "champion"), ("a\nb", "champion"),
        ("wine", "V2"), ("wine", "v3"), ("wine", "Latest"), ("wine", "latest"), ("wine", "2"),
        ("wine", "a b"), ("wine", "a@b"), ("wine", "previous"), ("wine", "x" * 300), ("wine", ""),
    ],
)  # fmt: skip
def test_a_name_that_is_not_leaves_no_version_behind(
    uri: str, tmp_path: Path, project: Path, model: str, alias: str
) -> None:
    asked = plain(uri, tmp_path, "a").model_copy(update={"model": model, "alias": alias})
    for change in (promote, registry.register):
        with pytest.raises(InputError, match=r"the (name|alias) '"):
            change(uri, asked)
    assert mlflow.MlflowClient(uri).search_registered_models() == []
    values = json.dumps({"model": model, "alias": alias})
    with pytest.raises(InputError, match=r"registry\.(model|alias)"):
        load_recipe(project / "recipe.yaml", [f"registry={values}"])


def test_more_versions_than_a_page_holds_are_searched(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PAGE", 2)
    asked = plain(uri, tmp_path, "a")
    promote(uri, asked)
    for content in "bcdef":
        mlflow.MlflowClient(uri).create_model_version("wine", "elsewhere", tags={"is": content})
    mlflow.MlflowClient(uri).delete_registered_model_alias("wine", "champion")
    assert len(ledger.all_versions(mlflow.MlflowClient(uri), "wine")) == 6
    again = promote(uri, asked)
    assert (again.version, again.new) == ("1", False)


def test_a_planted_version_with_hones_tags_is_not_taken(uri: str, tmp_path: Path) -> None:
    asked = plain(uri, tmp_path, "a")
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "MLmodel").write_text("evil")
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("wine")
    client.create_model_version("wine", str(evil), tags=asked.all_tags)
    assert promote(uri, asked).version == "2"
    client.set_registered_model_alias("wine", "champion", "1")
    assert promote(uri, asked).version == "2", "nor is it as before"
    assert aliases(uri)["champion"] == "2"


@pytest.mark.parametrize("place", ["/", "/etc", "/nowhere", "https://127.0.0.1:9/x"])
def test_a_version_may_name_any_place(uri: str, tmp_path: Path, place: str) -> None:
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("wine")
    client.create_model_version("wine", place, tags={names.DIGEST: "0" * 64})
    assert not verify(uri, "wine", "1").holds
    asked = plain(uri, tmp_path, "a")
    client.set_registered_model_alias("wine", "champion", "1")
    client.set_model_version_tag("wine", "1", names.DIGEST, asked.digest)
    client.set_model_version_tag("wine", "1", names.RECIPE_DIGEST, asked.recipe_digest)
    assert promote(uri, asked).version == "2"


def test_a_place_that_a_server_serves_is_not_taken_for_a_folder(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plain(uri, tmp_path, "a")
    place, taken = place_of(uri, asked.model_id), []

    def download(artifact_uri: str, dst_path: str, tracking_uri: str) -> str:
        taken.append(artifact_uri)
        return str(place)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    for served in ("mlflow-artifacts:/1/models/m", "s3://bucket/m", "https://x/y"):
        assert held_at(uri, served) == asked.files
    assert len(taken) == 3


def test_verify_says_what_it_found(uri: str, tmp_path: Path) -> None:
    asked = plain(uri, tmp_path, "a")
    promote(uri, asked)
    assert "holds what was measured" in verify(uri, "wine", "1").sentence
    client = mlflow.MlflowClient(uri)
    client.delete_model_version_tag("wine", "1", names.DIGEST)
    assert "can't be verified" in verify(uri, "wine", "1").sentence
    with pytest.raises(InputError, match="the registry has no wine version 7"):
        verify(uri, "wine", "7")
    with pytest.raises(InputError, match="the registry has no wine@best"):
        verify(uri, "wine", "@best")


def test_the_version_before_keeps_an_alias(uri: str, tmp_path: Path, changes: list[str]) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    second = promote(uri, plain(uri, tmp_path, "b", "d2"))
    assert (second.version, second.previous) == ("2", "1")
    assert aliases(uri) == {"champion": "2", "previous": "1"}
    assert changes[-2:] == [
        "set_registered_model_alias previous 1", "set_registered_model_alias champion 2",
    ]  # fmt: skip


def test_a_version_that_a_killed_run_left_without_an_alias_is_found_again(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    failing(monkeypatch, "set_registered_model_alias", [KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        promote(uri, plain(uri, tmp_path, "a"))
    assert changes == ["create_registered_model", "create_model_version"]
    promotion = promote(uri, plain(uri, tmp_path, "a"))
    assert (promotion.version, promotion.new) == ("1", False)
    assert versions(uri) == ["1"]
    assert aliases(uri) == {"champion": "1"}


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    failing(monkeypatch, "create_model_version", [ConnectionError("refused")])
    failing(monkeypatch, "set_registered_model_alias", [ConnectionError("refused")])
    assert promote(uri, plain(uri, tmp_path, "a")).version == "1"
    assert changes[-2:] == ["create_model_version", "set_registered_model_alias champion 1"]
    assert versions(uri) == ["1"]


def test_one_that_stays_away_is_told(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plain(uri, tmp_path, "a")
    failing(monkeypatch, "create_registered_model", [ConnectionError("refused")] * 50)
    with pytest.raises(ServerUnreachable, match="measured but not registered") as caught:
        promote(uri, asked, wait=-1)
    assert caught.value.where == uri


def test_what_mlflow_refuses_is_not_tried_again_and_blocks_nobody(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plain(uri, tmp_path, "a")
    failing(
        monkeypatch, "create_model_version", [MlflowException("not allowed", PERMISSION_DENIED)]
    )
    with pytest.raises(MlflowException, match="not allowed"):
        promote(uri, asked)
    assert aliases(uri) == {}
    assert promote(uri, asked).version == "1"


def test_a_ledgers_name_is_not_a_models(uri: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for a ledger"):
        promote(uri, plain(uri, tmp_path, "a").model_copy(update={"model": "wine.ledger"}))


def test_a_registration_has_its_turn_and_moves_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that registers the same meanwhile finds that version."""
    mine, other = plain(uri, tmp_path, "a"), plain(uri, tmp_path, "a")
    real, done = registry._registered, []

    def with_another(*given: object) -> object:
        if not done:
            done.append(True)
            with pytest.raises(HoneError, match="another registration of wine has been going on"):
                registry.register(uri, other)
        return real(*given)

    monkeypatch.setattr(registry, "_TURN", 0.2)
    monkeypatch.setattr(registry, "_registered", with_another)
    assert registry.register(uri, mine).version == "1"
    assert registry.register(uri, other).version == "1"
    assert aliases(uri) == {}
    assert history(uri, "wine") == []
    assert promote(uri, other).version == "1"


TWO = """
import sys, time
from pathlib import Path
from prefect_hone.tasks.tracking.registry import Promotable, promote
import mlflow
uri, start = sys.argv[1:3]
mlflow.set_tracking_uri(uri)
asked = [Promotable.model_validate_json(Path(path).read_text()) for path in sys.argv[3:]]
while time.time() < float(start): time.sleep(0.001)
for one in asked:
    print(promote(uri, one).model_dump_json(), flush=True)
"""


@pytest.mark.slow
def test_two_promotions_at_once(uri: str, tmp_path: Path) -> None:
    """Each is entered with the champion before it, and the same bytes get one version."""

    def written(name: str, content: str) -> str:
        file = tmp_path / f"{name}.json"
        file.write_text(plain(uri, tmp_path, content).model_dump_json())
        return str(file)

    start = str(time.time() + 4)
    both = []
    for who in "ab":
        files = [
            written(f"{who}-{kind}{turn}", content)
            for turn in range(4)
            for kind, content in (("own", f"{who}{turn}"), ("same", f"same{turn}"))
        ]
        command = [sys.executable, "-c", TWO, uri, start, *files]
        both.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    try:
        for process in both:
            _, said = process.communicate(timeout=480)
            assert process.returncode == 0, said
    finally:
        for process in both:
            process.kill()
    told = [entry.record for entry in history(uri, "wine")]
    assert all(one.after == two.before for one, two in itertools.pairwise(told))
    held = aliases(uri)
    assert held["champion"] == told[-1].after
    assert held["previous"] == told[-1].before
    found = mlflow.MlflowClient(uri).search_model_versions("name = 'wine'")
    digests = [v.tags[names.DIGEST] for v in found]
    assert len(digests) == len(set(digests)) == 12
