"""Any bytes as a journal are sent in part, or refused with a sentence; nothing outside is read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fuzzing import changed_bytes, changed_values, changes_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from prefect_hone.tasks.specs.check import TensorFact
from prefect_hone.tasks.tracking import entries
from prefect_hone.tasks.tracking.entries import FolderEntry, JournalEntry, TextEntry, read_entry
from prefect_hone.tasks.tracking.journal import BadJournal, Journal, open_left_over
from prefect_hone.tasks.tracking.names import PARENT
from prefect_hone.tasks.tracking.tracker import Tracker

RUN = "0123456789abcdef0123456789abcdef"
TENSOR = TensorFact(shape=(3,), dtype="float32")
LINES = [
    entry.model_dump(mode="json")
    for entry in (
        entries.HeaderEntry(uri="sqlite:///x.db", experiment="exp", version="0.1.0"),
        entries.RunEntry(ref="a", name="a", tags={"t": "1"}),
        entries.MetricEntry(ref=PARENT, name="m", value=1.0, step=0, time_ms=5),
        entries.ParamsEntry(ref=PARENT, values={"p": "1"}),
        entries.TagsEntry(ref="a", values={"p": "1"}),
        TextEntry(ref="a", content="x", file="x/y.txt"),
        FolderEntry(ref="a", folder="/nowhere", path="x"),
        entries.DatasetEntry(ref="a", name="d", digest="1", source={"a": 1}, profile={"train": 3},
                             contexts=("training",)),
        entries.ModelEntry(ref="a", name="m", folder="/nowhere", target="onnxruntime-cpu",
                           sha256="1" * 64, options={}, inputs={"x": TENSOR}, output=TENSOR,
                           example="", requirements=(), params={}, tags={}),
        entries.FinishEntry(ref="a", status=entries.RunStatus.FINISHED, time_ms=9),
    )
]  # fmt: skip
TEXT = "".join(json.dumps(line) + "\n" for line in LINES).encode()
SENT = json.dumps({"sent": 2, "ids": {PARENT: RUN, "a": "b" * 32}}).encode()


class Listener:
    """In place of MLflow: it takes what it is sent, and refuses runs that it doesn't know."""

    def __init__(self) -> None:
        self.sent: list[JournalEntry] = []

    def run_is_over(self, run_id: str) -> bool:
        return True

    def end_if_running(self, run_id: str, status: object) -> None:
        assert isinstance(run_id, str)

    def send(self, given: Sequence[JournalEntry], ids: dict[str, str]) -> None:
        for entry in given:
            if not isinstance(entry, entries.HeaderEntry):
                assert ids[entry.ref] is not None
            self.sent.append(entry)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journals")


def sent_of(folder: Path, content: bytes, sent: bytes) -> tuple[list[JournalEntry], Tracker]:
    """What of a left-over journal is sent, by the code that a run uses."""
    path = folder / f"{RUN}.jsonl"
    path.write_bytes(content)
    path.with_suffix(".sent").write_bytes(sent)
    tracker, listener = Tracker("sqlite:///x.db", None, "exp", folder), Listener()
    tracker._sending._sender = listener  # type: ignore[assignment]
    list(tracker._sending._old_journal(path))
    assert all(len(problem) < 1000 for problem in tracker.problems)
    return listener.sent, tracker


@fuzzed
@given(changed_bytes(TEXT) | st.binary(max_size=200), changed_bytes(SENT) | st.just(SENT))
def test_any_bytes_as_a_journal(folder: Path, content: bytes, sent: bytes) -> None:
    found, _ = sent_of(folder, content, sent)
    for entry in found:
        assert read_entry(entry.model_dump_json()) == entry or isinstance(
            entry, entries.MetricEntry
        )


@fuzzed
@given(
    st.integers(0, len(LINES) - 1).flatmap(
        lambda i: st.tuples(st.just(i), changes_of(LINES[i]))
    ),
    changes_of(json.loads(SENT)),
)  # fmt: skip
def test_any_value_in_a_journal(folder: Path, line: tuple[int, Any], sent: Any) -> None:
    index, changes = line
    lines = [*LINES[:index], changed_values(LINES[index], changes), *LINES[index + 1 :]]
    text = "".join(json.dumps(said) + "\n" for said in lines)
    found, _ = sent_of(
        folder, text.encode(), json.dumps(changed_values(json.loads(SENT), sent)).encode()
    )
    for entry in found:
        path = getattr(entry, "file", getattr(entry, "path", "x"))
        if isinstance(path, str):
            assert ".." not in PurePosixPath(path).parts
            assert not path.startswith("/")


@fuzzed
@given(changed_bytes(TEXT), st.lists(st.integers(1, 4), max_size=6))
def test_any_journal_is_read_in_order(folder: Path, content: bytes, counts: list[int]) -> None:
    path = folder / f"{'1' * 32}.jsonl"
    path.write_bytes(content)
    path.with_suffix(".sent").unlink(missing_ok=True)
    try:
        journal = open_left_over(path)
    except BadJournal:
        return
    for _ in counts:
        if journal.waiting():
            journal.done(len(journal.next()))
    left = journal.waiting()
    journal.close(remove=False)
    again = Journal(path)
    assert (again.waiting(), again.ids) == (left, journal.ids)
    again.close(remove=True)
    assert not os.path.lexists(path)


@fuzzed
@given(st.text(max_size=40) | st.sampled_from(["../x", "a\0b", "-", "x" * 65, "é", "a\n"]))
def test_any_name_of_a_journal(folder: Path, name: str) -> None:
    path = folder / "named" / f"{name}.jsonl".replace("/", "_").replace("\0", "")
    path.parent.mkdir(exist_ok=True)
    try:
        path.write_bytes(TEXT)
    except (OSError, UnicodeError):
        return
    try:
        open_left_over(path).close(remove=False)
    except BadJournal:
        assert not (path.stem.isascii() and path.stem.isalnum() and len(path.stem) <= 64)
    finally:
        path.unlink()
