"""What each entry becomes in MLflow; asked of MLflow's own store where it must be."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.away import is_away
from prefect_hone.tasks.tracking.entries import (
    DatasetEntry,
    FinishEntry,
    FolderEntry,
    HeaderEntry,
    MetricEntry,
    ParamsEntry,
    RunEntry,
    RunStatus,
    TagsEntry,
    TextEntry,
)
from prefect_hone.tasks.tracking.sender import MlflowSender


def raised(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionError("refused"), True),
        (TimeoutError(), True),
        (requests.ConnectionError("refused"), True),
        (raised(RuntimeError("x"), requests.ReadTimeout()), True),
        (MlflowException("x", TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("x", INTERNAL_ERROR), True),
        (MlflowException("API request to http://x failed with exception y"), True),
        (MlflowException("database is locked", INVALID_PARAMETER_VALUE), True),
        (MlflowException("bad name", INVALID_PARAMETER_VALUE), False),
        (KeyError("x"), False),
    ],
)
def test_away_is_told_from_refused(error: BaseException, away: bool) -> None:
    assert is_away(error) is away


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED", "FAILED", "KILLED"])
def test_a_run_is_over_unless_it_runs(status: str) -> None:
    assert RunStatus(status).is_over is (status != "RUNNING")


@pytest.fixture(scope="module")
def uri(databases: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copyfile(databases / "mlflow.db", folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def sender(uri: str, tmp_path: Path) -> MlflowSender:
    made = MlflowSender(uri, str(tmp_path / "artifacts"), f"exp-{tmp_path.name}")
    made.connect()
    return made


def test_each_entry_is_sent(sender: MlflowSender, uri: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_text("w")
    parent = sender.create_run(None, "parent", {"a": "b"})
    ids = {"parent": parent}
    for entry in (
        HeaderEntry(uri=uri, experiment="exp"),
        RunEntry(ref="train", name="train", tags={"c": "d"}),
        RunEntry(ref="train", name="train", tags={"c": "d"}),
        ParamsEntry(ref="train", values={f"p{i}": "x" * 7000 for i in range(120)}),
        TagsEntry(ref="train", values={"t": "y" * 9000}),
        TextEntry(ref="train", content="hello", file="a/b.txt"),
        FolderEntry(ref="train", folder=str(tmp_path / "weights"), path="weights"),
        DatasetEntry(
            ref="train",
            name="wine",
            digest="ab",
            source={"factory": "a:b"},
            profile={"train": 3},
            contexts=("training", "validation"),
        ),
        FinishEntry(ref="train", status=RunStatus.FAILED, time_ms=5_000),
    ):
        sender.send([entry], ids)
    metrics = [
        MetricEntry(ref="train", name="loss", value=float(i), step=i, time_ms=i) for i in range(3)
    ]
    sender.send(metrics, ids)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(ids["train"])
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert len(client.search_runs([run.info.experiment_id])) == 2, "a run is made once"
    assert (len(run.data.params), len(run.data.params["p0"])) == (120, 5900)
    assert len(run.data.tags["t"]) == 7900
    assert (run.info.status, run.info.end_time) == ("FAILED", 5_000)
    assert [p.value for p in client.get_metric_history(ids["train"], "loss")] == [0, 1, 2]
    assert {a.path for a in client.list_artifacts(ids["train"])} == {"a", "weights"}
    contexts = {i.tags[0].value for i in run.inputs.dataset_inputs}
    assert contexts == {"training"}


def test_values_of_several_runs_take_one_request_each(
    sender: MlflowSender, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {name: sender.create_run(None, name, {}) for name in ("a", "b")}
    client = mlflow.MlflowClient(uri)
    requests_made = []
    real = mlflow.MlflowClient.log_batch

    def counted(self: mlflow.MlflowClient, run_id: str, *args: object) -> object:
        requests_made.append(run_id)
        return real(self, run_id, *args)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", counted)
    loss = [MetricEntry(ref="a", name="loss", value=i, step=i, time_ms=i) for i in range(1001)]
    sender.send(
        [
            *loss[:2],
            ParamsEntry(ref="b", values={"p": "1"}),
            TagsEntry(ref="a", values={"t": "first"}),
            ParamsEntry(ref="a", values={"q": "2"}),
            TagsEntry(ref="a", values={"t": "last"}),
        ],
        ids,
    )
    assert requests_made == [ids["a"], ids["b"]]
    a, b = (client.get_run(ids[name]).data for name in ("a", "b"))
    assert (a.metrics, a.params, a.tags["t"]) == ({"loss": 1.0}, {"q": "2"}, "last")
    assert (b.metrics, b.params) == ({}, {"p": "1"})
    sender.send([*loss, ParamsEntry(ref="a", values={f"p{i}": "x" for i in range(230)})], ids)
    assert len(client.get_metric_history(ids["a"], "loss")) == 1001, "none twice, none missing"
    assert len(client.get_run(ids["a"]).data.params) == 231


def test_only_a_running_run_is_ended(sender: MlflowSender, uri: str) -> None:
    run = sender.create_run(None, "parent", {})
    assert not sender.run_is_over(run)
    sender.end_if_running(run, RunStatus.FINISHED)
    sender.end_if_running(run, RunStatus.KILLED)
    assert mlflow.MlflowClient(uri).get_run(run).info.status == "FINISHED"


def test_runs_of_dead_processes_are_ended_and_say_so(sender: MlflowSender, uri: str) -> None:
    dead, alive, mine = (sender.create_run(None, name, {"name": name}) for name in "dam")
    sender.close_dead_runs(lambda _, tags: tags.get("name") in ("d", "m"), keep=mine)
    client = mlflow.MlflowClient(uri)
    assert [client.get_run(run).info.status for run in (dead, alive, mine)] == [
        "KILLED", "RUNNING", "RUNNING",
    ]  # fmt: skip
    assert client.get_run(dead).data.tags["hone.ended"] == "its process was gone"


def test_a_child_lives_as_long_as_its_parent_beats(sender: MlflowSender, uri: str) -> None:
    beat = {names.HEARTBEAT: "1"}
    parent = sender.create_run(None, "parent", {**beat, "whose": "far"})
    child = sender.create_run(parent, "child", {**beat, "whose": "far"})
    sender.tag(parent, names.HEARTBEAT, "2")
    seen: dict[str, str] = {}

    def look(run_id: str, tags: dict[str, str]) -> bool:
        if tags.get("whose") == "far":
            seen[run_id] = tags[names.HEARTBEAT]
        return False

    sender.close_dead_runs(look, keep="")
    assert seen == {parent: "2", child: "2"}


def test_one_run_that_cant_be_judged_stops_nothing(sender: MlflowSender, uri: str) -> None:
    odd, dead = (sender.create_run(None, name, {"name": name}) for name in ("odd", "dead"))

    def judge(_: str, tags: dict[str, str]) -> bool:
        if tags.get("name") == "odd":
            raise ValueError("an odd tag")
        return tags.get("name") == "dead"

    sender.close_dead_runs(judge, keep="")
    assert mlflow.MlflowClient(uri).get_run(dead).info.status == "KILLED"
    assert sender.doubts == [f"run {odd} can't be ended: an odd tag"]


def test_an_experiment_that_was_deleted_is_there_again(
    sender: MlflowSender, uri: str, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(uri)
    name = f"exp-{tmp_path.name}"
    client.delete_experiment(client.get_experiment_by_name(name).experiment_id)
    sender.connect()
    assert client.get_experiment_by_name(name).lifecycle_stage == "active"
