"""What is sent to MLflow: one model for each kind of entry in the journal.

The journal has one JSON line per entry. Another version of Hone may read it, so a new field needs a
default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter

from ...recipe.strict import Strict
from ..specs.check import TensorFact


class RunStatus(StrEnum):
    """Of an MLflow run."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def is_over(self) -> bool:
        return self is not RunStatus.RUNNING


class HeaderEntry(Strict):
    """The first line of a journal: where to send it."""

    op: Literal["header"] = "header"
    uri: str
    experiment: str
    version: str = Field("", description="Version of Hone that wrote it.")


class RunEntry(Strict):
    """Start a child run, called `ref` from then on."""

    op: Literal["run"] = "run"
    ref: str
    name: str
    tags: dict[str, str]


class MetricEntry(Strict):
    """One metric of a run; with `model`, also of the candidate's LoggedModel."""

    model_config = ConfigDict(  # a loss may be NaN, and an error infinite
        frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants"
    )

    op: Literal["metrics"] = "metrics"
    ref: str
    name: str
    value: float
    step: int
    time_ms: int
    model: str | None = None


class ParamsEntry(Strict):
    op: Literal["params"] = "params"
    ref: str
    values: dict[str, str]


class TagsEntry(Strict):
    op: Literal["tags"] = "tags"
    ref: str
    values: dict[str, str]


class TextEntry(Strict):
    """A text as an artifact `file`."""

    op: Literal["text"] = "text"
    ref: str
    content: str
    file: str


class FolderEntry(Strict):
    """The files of a folder as artifacts under `path`."""

    op: Literal["folder"] = "folder"
    ref: str
    folder: str
    path: str


class DatasetEntry(Strict):
    """A data set as an input of a run.

    Attributes:
        name: Of the data.
        digest: Of samples of it.
        source: The recipe's data factory with its arguments.
        profile: Samples of each split.
        contexts: What it is used for.
    """

    op: Literal["dataset"] = "dataset"
    ref: str
    name: str
    digest: str
    source: dict[str, JsonValue]
    profile: dict[str, int]
    contexts: tuple[str, ...]


class ModelEntry(Strict):
    """A candidate as a LoggedModel of its run.

    Attributes:
        ref: The candidate.
        name: Its name in MLflow.
        folder: The artifact's files.
        target: Kind of the target.
        sha256: Of the bytes that were measured.
        options: For what opens it.
        inputs: Of the model, by name.
        output: The main one.
        example: File of real inputs.
        requirements: Distributions that loading it requires, for pip.
        params: What it was made from: variant, target, recipe.
        tags: `hone.sha256` and `hone.candidate`, which identify it.
    """

    op: Literal["model"] = "model"
    ref: str
    name: str
    folder: str
    target: str
    sha256: str
    options: dict[str, JsonValue]
    inputs: dict[str, TensorFact]
    output: TensorFact
    example: str
    requirements: tuple[str, ...]
    params: dict[str, str]
    tags: dict[str, str]


class FinishEntry(Strict):
    """End a run."""

    op: Literal["finish"] = "finish"
    ref: str
    status: RunStatus
    time_ms: int


JournalEntry = Annotated[
    HeaderEntry
    | RunEntry
    | MetricEntry
    | ParamsEntry
    | TagsEntry
    | TextEntry
    | FolderEntry
    | DatasetEntry
    | ModelEntry
    | FinishEntry,
    Field(discriminator="op"),
]
_ENTRY: TypeAdapter[JournalEntry] = TypeAdapter(JournalEntry)


@dataclass(frozen=True)
class UnreadableEntry:
    """A line of a journal that this version can't read, because another one wrote it."""

    line: str


def read_entry(line: str) -> JournalEntry | UnreadableEntry:
    """An entry from a line of a journal."""
    try:
        return _ENTRY.validate_json(line)
    except ValueError:
        return UnreadableEntry(line)


def model_key(ref: str) -> str:
    """The key of a candidate's LoggedModel, among the ids of runs."""
    return f"model:{ref}"


def is_model_key(key: str) -> bool:
    return key.startswith("model:")
