"""Log lines as JSON: each has the ids of its run and step, and no credentials."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator

import pytest
from prefect_hone.flows import logs
from prefect_hone.flows.cli.console import LogLines
from prefect_hone.ray_workers.events import EpochEnd, Progress
from prefect_hone.recipe.errors import InputError


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root, hone = logging.getLogger(), logging.getLogger("hone")
    kept, level, factory = list(root.handlers), hone.level, logging.getLogRecordFactory()
    of_hone = list(hone.handlers)
    monkeypatch.setitem(sys.modules, "prefect", None)
    monkeypatch.setattr(logs, "_run", {})
    yield
    root.handlers[:] = kept
    hone.handlers[:] = of_hone
    hone.setLevel(level)
    logging.setLogRecordFactory(factory)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_each_line_names_its_run_and_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_LOG_FORMAT", "json")
    logs.use_log_format()
    logs.use_log_format()  # twice is once
    logs.about_run(flow_run_id="f-1", recipe="wine", run_id="")
    logs.about_run(run_id="m-1")
    log = logging.getLogger("hone")
    with logs.about_step("compile", "int8@onnxruntime-cpu"):
        log.warning("slow at %s", "https://ann:s3cret@mlflow/api")
    thread = threading.Thread(target=log.warning, args=("of another thread",))
    thread.start()
    thread.join()
    first, second = lines(capsys)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning", "logger": "hone", "message": "slow at https://***@mlflow/api",
        "flow_run_id": "f-1", "run_id": "m-1", "recipe": "wine", "step": "compile",
        "candidate": "int8@onnxruntime-cpu",
    }  # fmt: skip
    assert "step" not in second
    assert second["run_id"] == "m-1"


def test_what_prefect_says_of_a_task_run_is_in_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_LOG_FORMAT", "json")
    logs.use_log_format()
    extra = {"flow_run_id": "f-2", "task_run_id": "t-1", "flow_run_name": "wine"}
    logging.getLogger("hone").info("epoch 1/2", extra=extra)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("hone").exception("it failed")
    first, second = lines(capsys)
    assert (first["flow_run_id"], first["task_run_id"]) == ("f-2", "t-1")
    assert "ValueError: no" in second["error"]


def test_a_run_on_the_command_line_tells_its_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_LOG_FORMAT", "json")
    logs.use_log_format()
    with LogLines() as observer:
        observer.phase("starting")
        observer.started("train")
        observer.event("train", EpochEnd("epoch 1/2: loss 0.1", 1, 2))
        observer.event("train", Progress(1, 2))
        observer.finished("train", 1.25, cached=False)
        observer.finished("check", 0.0, cached=True)
        observer.failed("compile int8@x", "no")
        observer.note("look")
    logs.say("no candidate")
    said = [(line["level"], line["message"]) for line in lines(capsys)]
    assert said == [
        ("info", "starting"), ("info", "train: epoch 1/2: loss 0.1"),
        ("info", "train: done in 1.2 s"), ("info", "check: cached"),
        ("error", "compile int8@x: failed: no"), ("info", "note: look"), ("error", "no candidate"),
    ]  # fmt: skip


def test_text_is_the_default_and_another_format_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = list(logging.getLogger().handlers)
    logs.use_log_format()
    assert logging.getLogger().handlers == handlers
    logs.say("no candidate")
    monkeypatch.setenv("HONE_LOG_FORMAT", "xml")
    with pytest.raises(InputError, match="there is no log format 'xml'"):
        logs.use_log_format()
    logs.say("no candidate")
    assert capsys.readouterr().err == "hone: no candidate\n" * 2


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_service_logs_what_it_does(
    format_: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_LOG_FORMAT", format_)
    for _ in range(2):  # twice is once
        logs.use_service_log()
    logging.getLogger("hone.listen").info("started %s", "promote/hone")
    (line,) = capsys.readouterr().err.splitlines()
    if format_ == "text":
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    started promote/hone", line
        )
    else:
        assert json.loads(line)["message"] == "started promote/hone"
