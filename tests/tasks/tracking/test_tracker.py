"""Everything reaches MLflow once, also when its server is away for a while or a run was killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import ServerUnreachable
from prefect_hone.tasks.tracking.entries import HeaderEntry, TextEntry
from prefect_hone.tasks.tracking.journal import Journal
from prefect_hone.tasks.tracking.liveness import Looks
from prefect_hone.tasks.tracking.names import PARENT
from prefect_hone.tasks.tracking.sender import MlflowSender
from prefect_hone.tasks.tracking.tracker import Tracker


@pytest.fixture
def new_uri(tmp_path: Path) -> str:
    """A store that is not there yet."""
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, databases: Path, new_uri: str) -> str:
    """An empty store."""
    shutil.copyfile(databases / "mlflow.db", tmp_path / "mlflow.db")
    return new_uri


def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")


def only_run(uri: str, name: str) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("exp")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.mlflow.runName = '{name}'")
    return run


def test_a_run_with_children(new_uri: str, tmp_path: Path) -> None:
    uri = new_uri
    made = tracker(uri, tmp_path)
    made.open("parent", {"a": "b"})
    made.child("train", "train", {})
    made.metric("train", "loss", 0.5, 0, 1000)
    made.metric("train", "loss", 0.25, 1, 2000)
    made.params(PARENT, {"x": 3})
    made.text(PARENT, "hello", "notes/hello.txt")
    made.finish("train", "FINISHED")
    assert made.close("FINISHED")
    parent, child = only_run(uri, "parent"), only_run(uri, "train")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.params == {"x": "3"}
    history = mlflow.MlflowClient(uri).get_metric_history(child.info.run_id, "loss")
    assert [(p.step, p.value, p.timestamp) for p in history] == [(0, 0.5, 1000), (1, 0.25, 2000)]
    text = mlflow.artifacts.load_text(f"runs:/{parent.info.run_id}/notes/hello.txt")
    assert text == "hello"
    assert not list((tmp_path / "journal").iterdir()), "nothing is left when all was sent"


def test_a_slow_server_gets_fewer_and_larger_requests(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker(uri, tmp_path)
    made.open("parent", {})
    sizes: list[int] = []
    send = made._sender.send

    def slow(entries, ids):
        time.sleep(0.1)
        sizes.append(len(entries))
        send(entries, ids)

    monkeypatch.setattr(made._sender, "send", slow)
    assert made.flush(10)
    for step in range(100):
        made.metric(PARENT, "loss", 0.5, step, step)
        time.sleep(0.01)
    so_far = len(sizes)
    began = time.monotonic()
    assert made.flush(10)
    assert time.monotonic() - began < 2, "who waits is not made to wait longer"
    assert so_far <= 5, "with pauses of 4 times what a request takes; 10 without"
    assert made.close("FINISHED")
    history = mlflow.MlflowClient(uri).get_metric_history(
        only_run(uri, "parent").info.run_id, "loss"
    )
    assert [point.step for point in history] == list(range(100))


def test_a_metric_has_one_value_per_step(uri: str, tmp_path: Path) -> None:
    made = tracker(uri, tmp_path)
    run_id = made.open("parent", {})
    made.metric(PARENT, "loss", 1.0, 3, 1000)
    made.metric(PARENT, "loss", 2.0, 3, 2000)
    made.close("FINISHED")
    history = mlflow.MlflowClient(uri).get_metric_history(run_id, "loss")
    assert [point.value for point in history] == [1.0]


def test_children_left_open_end_with_the_parent(uri: str, tmp_path: Path) -> None:
    made = tracker(uri, tmp_path)
    made.open("parent", {})
    made.child("c", "child", {})
    made.close("KILLED")
    assert only_run(uri, "child").info.status == "KILLED"
    assert only_run(uri, "parent").info.status == "KILLED"


def test_what_mlflow_refuses_is_told_and_the_rest_arrives(uri: str, tmp_path: Path) -> None:
    made = tracker(uri, tmp_path)
    run_id = made.open("parent", {})
    made.metric(PARENT, "bad(name", 1.0, 0, 1)
    made.metric(PARENT, "good", 2.0, 0, 1)
    assert made.close("FINISHED")
    assert mlflow.MlflowClient(uri).get_run(run_id).data.metrics == {"good": 2.0}
    assert any("bad(name" in problem for problem in made.problems)


def test_a_server_that_is_away_for_a_while_loses_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker(uri, tmp_path)
    run_id = made.open("parent", {})
    away = True
    real = made._sender.send

    def flaky(operations: list, ids: dict) -> None:
        if away:
            raise ConnectionError("refused")
        real(operations, ids)

    monkeypatch.setattr(made._sender, "send", flaky)
    for step in range(50):
        made.metric(PARENT, "loss", float(step), step, 1000 + step)
    time.sleep(0.5)
    assert made.away_for() > 0
    assert not made.flush(0.1)
    away = False
    assert made.close("FINISHED")
    history = mlflow.MlflowClient(uri).get_metric_history(run_id, "loss")
    assert [(p.step, p.timestamp) for p in history] == [(s, 1000 + s) for s in range(50)]


def test_a_server_that_is_slow_is_waited_for(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker(uri, tmp_path)
    made.open("parent", {})
    real = MlflowSender.send

    def slowly(self: MlflowSender, entries: object, ids: object) -> None:
        time.sleep(0.3)
        real(self, entries, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowSender, "send", slowly)
    for number in range(10):
        made.text(PARENT, "hello", f"notes/{number}.txt")
    assert not made.flush(0.5)
    assert made.flush(1.5, while_it_takes=True), "it took one after the other"
    made.text(PARENT, "hello", "notes/last.txt")
    assert made.close("FINISHED", seconds=0.1)
    assert list((tmp_path / "journal").glob("*.jsonl")) == []
    assert only_run(uri, "parent").info.status == "FINISHED"


def test_what_was_not_sent_is_sent_by_the_next_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tracker(uri, tmp_path)
    run_id = first.open("first", {})
    monkeypatch.setattr(first._sender, "send", lambda *_: (_ for _ in ()).throw(ConnectionError()))
    first.metric(PARENT, "loss", 1.5, 7, 1000)
    assert not first.close("FINISHED", seconds=0.3)
    monkeypatch.setattr(Looks, "is_dead", lambda *_: True)
    second = tracker(uri, tmp_path)
    second.open("second", {})
    second.flush(10)
    time.sleep(0.5)
    second.close("FINISHED")
    history = mlflow.MlflowClient(uri).get_metric_history(run_id, "loss")
    assert [(p.step, p.value) for p in history] == [(7, 1.5)]
    assert mlflow.MlflowClient(uri).get_run(run_id).info.status in ("KILLED", "FINISHED")


def test_a_killed_run_is_closed_by_the_next_one(uri: str, tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from prefect_hone.tasks.tracking.tracker import Tracker\n"
        f"t = Tracker({uri!r}, {str(tmp_path / 'artifacts')!r}, 'exp', Path({str(tmp_path / 'journal')!r}))\n"
        "t.open('first', {}); t.child('c', 'child', {}); t.metric('c', 'loss', 1.0, 0, 5)\n"
        "t.flush(20); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -9
    assert only_run(uri, "first").info.status == "RUNNING"
    second = tracker(uri, tmp_path)
    second.open("second", {})
    second.flush(10)
    second.close("FINISHED")
    assert only_run(uri, "first").info.status == "KILLED"
    assert only_run(uri, "child").info.status == "KILLED"
    assert only_run(uri, "second").info.status == "FINISHED"


def test_a_run_of_a_living_process_is_left_alone(uri: str, tmp_path: Path) -> None:
    first = tracker(uri, tmp_path)
    first.open("first", {})
    second = tracker(uri, tmp_path)
    second.open("second", {})
    second.close("FINISHED")
    assert only_run(uri, "first").info.status == "RUNNING"
    first.close("FINISHED")


def test_an_unreachable_server_is_said_at_the_start(tmp_path: Path) -> None:
    made = tracker("http://127.0.0.1:9", tmp_path)
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:9") as caught:
        made.open("parent", {})
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert time.monotonic() - started < 100, "MLflow's own patience is longer"


def test_journals_for_other_servers_and_of_other_versions_stop_nothing(
    uri: str, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    for name, uri_of in (("elsewhere", "http://127.0.0.1:9"), ("gone", uri)):
        journal = Journal(folder / f"{name}.jsonl")
        journal.append(HeaderEntry(uri=uri_of, experiment="exp"))
        journal.append(TextEntry(ref=PARENT, content="x", file="x.txt"))
        journal.close(remove=False)
    made = tracker(uri, tmp_path)
    run_id = made.open("parent", {})
    made.params(PARENT, {"x": 3})
    assert made.close("FINISHED"), "what is there from before does not keep a run from being sent"
    assert mlflow.MlflowClient(uri).get_run(run_id).data.params == {"x": "3"}
    assert sorted(path.name for path in folder.iterdir()) == ["elsewhere.jsonl", "refused"]
    assert [path.name for path in (folder / "refused").iterdir()] == ["gone.jsonl"]
    (problem,) = made.problems
    assert "refused/gone.jsonl" in problem, "no run of that id is in this store"
    again = tracker(uri, tmp_path)
    again.open("parent", {})
    again.close("FINISHED")
    assert not again.problems, "it is said once"


def test_a_line_that_another_version_wrote_is_told_and_the_rest_is_sent(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tracker(uri, tmp_path)
    run_id = first.open("first", {})
    first.close("FINISHED")
    (tmp_path / "journal" / f"{run_id}.jsonl").write_text(
        json.dumps({"op": "header", "uri": uri, "experiment": "exp"}) + "\n"
        + json.dumps({"op": "hologram", "ref": "parent", "content": "3D"}) + "\n"
        + json.dumps({"op": "params", "ref": "parent", "values": {"depth": "3"}}) + "\n"
    )  # fmt: skip
    (tmp_path / "journal" / f"{run_id}.sent").write_text(
        json.dumps({"sent": 1, "ids": {"parent": run_id}})
    )
    second = tracker(uri, tmp_path)
    second.open("second", {})
    second.close("FINISHED")
    assert mlflow.MlflowClient(uri).get_run(run_id).data.params == {"depth": "3"}
    assert any("hologram" in problem and run_id in problem for problem in second.problems)
    assert not list((tmp_path / "journal").iterdir())
