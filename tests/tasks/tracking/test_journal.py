"""The journal: every entry comes back as it was, in order, whatever ended the process."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from prefect_hone.tasks.specs.check import TensorFact
from prefect_hone.tasks.tracking.entries import (
    DatasetEntry,
    FinishEntry,
    FolderEntry,
    HeaderEntry,
    JournalEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    RunEntry,
    RunStatus,
    TagsEntry,
    TextEntry,
    UnreadableEntry,
    read_entry,
)
from prefect_hone.tasks.tracking.journal import Journal, left_over


def metric(step: int, ref: str = "a", value: float = 1.0) -> MetricEntry:
    return MetricEntry(ref=ref, name="loss", value=value, step=step, time_ms=1000 + step)


MODEL = ModelEntry(
    ref="fp32@onnxruntime-cpu",
    name="fp32-onnxruntime-cpu",
    folder="/store/a",
    target="onnxruntime-cpu",
    sha256="ab",
    options={"threads": 2},
    inputs={"input": TensorFact(shape=(3, 4), dtype="float32")},
    output=TensorFact(shape=(10,), dtype="float32"),
    example="/store/b/samples.safetensors",
    requirements=("numpy==2.0",),
    params={"variant": "fp32"},
    tags={"hone.sha256": "ab"},
)
ENTRIES: list[JournalEntry] = [
    HeaderEntry(uri="sqlite:///x", experiment="exp", version="0.1.0"),
    RunEntry(ref="train", name="train", tags={"a": "b"}),
    metric(3),
    ParamsEntry(ref="train", values={"x": "3"}),
    TagsEntry(ref="train", values={"y": "4"}),
    TextEntry(ref="train", content="two\nlines\u2028and more", file="notes.txt"),
    FolderEntry(ref="train", folder="/weights", path="weights"),
    DatasetEntry(
        ref="train",
        name="wine",
        digest="ab",
        source={"factory": "a:b", "args": {"n": 1}},
        profile={"train": 10},
        contexts=("training",),
    ),
    MODEL,
    FinishEntry(ref="train", status=RunStatus.KILLED, time_ms=5),
]


def test_every_kind_of_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    for entry in ENTRIES:
        journal.append(entry)
    journal.close(remove=False)
    again = Journal(tmp_path / "j.jsonl")
    assert again.entries == ENTRIES
    assert again.header == ENTRIES[0]
    again.close(remove=True)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_may_be_nan_or_infinite(value: float) -> None:
    back = read_entry(metric(0, value=value).model_dump_json())
    assert isinstance(back, MetricEntry)
    assert repr(back.value) == repr(value)


def test_a_journal_survives_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append(metric(1))
    journal.append(metric(2))
    journal.done(1)
    journal.close(remove=False)
    with path.open("a") as stream:
        stream.write('{"op": "metr')
    again = Journal(path)
    assert [entry.step for entry in again.next() if isinstance(entry, MetricEntry)] == [2]
    assert again.waiting() == 1
    again.close(remove=True)
    assert not os.listdir(tmp_path)


def test_a_line_of_another_version_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({"op": "hologram"}) + "\n" + metric(1).model_dump_json() + "\n")
    journal = Journal(path)
    (first,) = journal.next()
    assert isinstance(first, UnreadableEntry)
    assert "hologram" in first.line
    journal.done(1)
    assert journal.next() == [metric(1)]
    assert journal.header is None


def test_what_the_first_version_wrote_is_read() -> None:
    """As 0.1.0 wrote them before entries had types: without a version, numbers as they came."""
    line = {"op": "metrics", "ref": "a", "name": "n", "value": 1, "step": 0, "time_ms": 5,
            "model": None}  # fmt: skip
    assert read_entry(json.dumps(line)) == MetricEntry(
        ref="a", name="n", value=1.0, step=0, time_ms=5
    )
    header = read_entry('{"op": "header", "uri": "u", "experiment": "e"}')
    assert header == HeaderEntry(uri="u", experiment="e")
    finish = read_entry('{"op": "finish", "ref": "a", "status": "FAILED", "time_ms": 1}')
    assert finish == FinishEntry(ref="a", status=RunStatus.FAILED, time_ms=1)


def test_metrics_params_and_tags_go_together_and_nothing_else_does(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    tags = TagsEntry(ref="a", values={"x": "y"})
    params = ParamsEntry(ref="b", values={"x": "y"})
    text = TextEntry(ref="a", content="", file="f")
    run = RunEntry(ref="c", name="c", tags={})
    together = [metric(0), metric(2, ref="b"), tags, metric(3), params]
    for entry in (*together, text, run, metric(4)):
        journal.append(entry)
    taken = []
    while journal.waiting():
        taken.append(journal.next())
        journal.done(len(taken[-1]))
    assert taken == [together, [text], [run], [metric(4)]]
    assert journal.next() == []


def test_progress_and_ids_are_there_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(metric(0))
    journal.append(metric(1))
    journal.ids["parent"] = "abc"
    journal.done(1)
    journal.close(remove=False)
    again = Journal(tmp_path / "j.jsonl")
    assert (again.sent, again.ids, again.waiting()) == (1, {"parent": "abc"}, 1)
    (tmp_path / "j.sent").write_text("not json")
    assert Journal(tmp_path / "j.jsonl").sent == 0


def test_the_oldest_is_sent_first(tmp_path: Path) -> None:
    for age, name in ((10, "new"), (20, "old")):
        path = tmp_path / f"{name}.jsonl"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert [path.stem for path in left_over(tmp_path)] == ["old", "new"]
