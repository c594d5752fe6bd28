"""A journal that can't be sent ends no thread, keeps no later run waiting, and is told once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from prefect_hone.tasks.tracking import journal as journals
from prefect_hone.tasks.tracking.entries import HeaderEntry, TextEntry
from prefect_hone.tasks.tracking.names import PARENT
from prefect_hone.tasks.tracking.tracker import Tracker

from ...support.logged_models import store

RUN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    return store(databases, tmp_path)


def header(uri: str) -> str:
    return HeaderEntry(uri=uri, experiment="exp").model_dump_json() + "\n"


def text(**changed: object) -> str:
    entry = TextEntry(ref=PARENT, content="x", file="x.txt").model_dump()
    return json.dumps({**entry, **changed}) + "\n"


def plant(folder: Path, kind: str, uri: str) -> None:
    folder.mkdir(parents=True)
    path, sent = folder / f"{RUN}.jsonl", folder / f"{RUN}.sent"
    match kind:
        case "unknown run, or a new database":
            path.write_text(header(uri) + text())
        case "cut by a full disk":
            path.write_text("")
        case "cut in its first line":
            path.write_text(header(uri)[:20])
        case "not text":
            path.write_bytes(b"\xff\xfe\x00" * 100)
        case "another name":
            (folder / "x'y.jsonl").write_text(header(uri) + text())
        case "a link":
            (folder / "secret").write_text(header(uri) + text())
            path.symlink_to(folder / "secret")
        case "a folder":
            path.mkdir()
        case "nested":
            path.write_text("[" * 100_000 + "\n" + text())
        case "more sent than there is":
            path.write_text(header(uri) + text())
            sent.write_text(json.dumps({"sent": 7, "ids": {}}))


@pytest.mark.parametrize(
    "kind",
    ["unknown run, or a new database", "cut by a full disk", "cut in its first line", "not text",
     "another name", "a link", "a folder", "nested", "more sent than there is"],
)  # fmt: skip
def test_one_that_cant_be_sent_is_put_aside(uri: str, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "journal"
    plant(folder, kind, uri)
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", folder)
    started = time.monotonic()
    run_id = made.open("parent", {})
    made.params(PARENT, {"x": 3})
    assert made.flush(20)
    assert made.close("FINISHED")
    assert time.monotonic() - started < 100
    assert mlflow.MlflowClient(uri).get_run(run_id).data.params == {"x": "3"}
    (problem,) = made.problems
    assert "can't be sent: " in problem
    assert not list(folder.glob("*.jsonl")), "the next run does not meet it"
    again = Tracker(uri, str(tmp_path / "artifacts"), "exp", folder)
    again.open("parent", {})
    assert again.close("FINISHED")
    assert not again.problems


def test_one_for_another_server_waits_for_it(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / f"{RUN}.jsonl").write_text(header("http://127.0.0.1:9") + text())
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", folder)
    made.open("parent", {})
    assert made.close("FINISHED")
    assert not made.problems
    assert (folder / f"{RUN}.jsonl").exists()


@pytest.mark.parametrize(
    "changed",
    [{"file": "../../x"}, {"file": "/etc/x"}, {"file": "a\\..\\x"}, {"ref": ""},
     {"content": None}, {"more": 1}, {"content": "x", "file": "n" * 9000}],
)  # fmt: skip
def test_a_hostile_line_is_left_out_and_told(
    uri: str, tmp_path: Path, changed: dict[str, object]
) -> None:
    first = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    run_id = first.open("first", {})
    first.close("FINISHED")
    path = tmp_path / "journal" / f"{run_id}.jsonl"
    path.write_text(header(uri) + text(**changed) + text(file="good.txt"))
    path.with_suffix(".sent").write_text(json.dumps({"sent": 1, "ids": {"parent": run_id}}))
    second = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    second.open("second", {})
    assert second.close("FINISHED")
    (problem,) = second.problems
    assert "leaves out" in problem
    found = mlflow.MlflowClient(uri).list_artifacts(run_id)
    assert [item.path for item in found] == ["good.txt"]


def test_this_runs_entries_do_not_wait_for_old_ones(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    run_id = first.open("first", {})
    first.close("FINISHED")
    path = tmp_path / "journal" / f"{run_id}.jsonl"
    path.write_text(header(uri) + "".join(text(file=f"{i}.txt") for i in range(200)))
    path.with_suffix(".sent").write_text(json.dumps({"sent": 1, "ids": {"parent": run_id}}))
    second = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    real = second._sender.send

    def slow(entries, ids) -> None:
        if isinstance(entries[0], TextEntry):
            time.sleep(0.05)
        real(entries, ids)

    monkeypatch.setattr(second._sender, "send", slow)
    second.open("second", {})
    time.sleep(0.3)
    started = time.monotonic()
    second.params(PARENT, {"x": 3})
    assert second.flush(5)
    assert time.monotonic() - started < 3
    monkeypatch.setattr("prefect_hone.tasks.tracking.tracker._PATIENCE", 0.2)
    assert second.close("FINISHED")


def test_what_goes_wrong_in_the_thread_does_not_end_it(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    run_id = made.open("parent", {})
    real, failing = made._sending.send_next, [True, True]

    def odd(journal: journals.Journal) -> bool:
        if failing:
            failing.pop()
            raise RuntimeError("odd")
        return real(journal)

    monkeypatch.setattr(made._sending, "send_next", odd)
    made.params(PARENT, {"x": 3})
    assert made.flush(20)
    assert made.close("FINISHED")
    assert mlflow.MlflowClient(uri).get_run(run_id).data.params == {"x": "3"}
    assert made.problems == ["what this run tracks can't be sent: odd"]


def test_a_thread_that_ended_keeps_nobody_waiting(uri: str, tmp_path: Path) -> None:
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    made.open("parent", {})
    made.close("FINISHED")
    made._journal.sent -= 1
    started = time.monotonic()
    assert not made.flush(180)
    assert time.monotonic() - started < 60


def test_a_full_disk_is_told_and_what_can_be_sent_is(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    run_id = made.open("parent", {})
    assert made.keeps_unsent

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(journals, "replace_file", full)
    made.params(PARENT, {"x": 3})
    assert made.flush(20)
    made.params(PARENT, {"y": 4})
    assert made.close("FINISHED")
    assert mlflow.MlflowClient(uri).get_run(run_id).data.params == {"x": "3", "y": "4"}
    (problem,) = made.problems
    assert "no space left" in problem
    assert not made.keeps_unsent


def test_a_full_disk_under_the_embedded_store_is_not_waited_for_as_a_server_is(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    made.open("parent", {})
    real, full = made._sender.send, [True]

    def send(entries, ids) -> None:
        if full:
            raise MlflowException("(sqlite3.OperationalError) database or disk is full", 1)
        real(entries, ids)

    monkeypatch.setattr(made._sender, "send", send)
    monkeypatch.setattr("prefect_hone.tasks.tracking.tracker._FULL", 0.3)
    made.params(PARENT, {"x": 3})
    started = time.monotonic()
    assert not made.flush(180)
    assert time.monotonic() - started < 20
    assert "no space or no inodes are left" in str(made.disk_error)
    full.clear()
    monkeypatch.setattr("prefect_hone.tasks.tracking.tracker._FULL", 20)
    assert made.flush(20)
    assert made.disk_error is None
    assert made.close("FINISHED")
