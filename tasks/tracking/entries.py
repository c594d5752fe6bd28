"""What is sent to MLflow: one model for each kind of entry in the journal.

The journal has one JSON line per entry. Another version of Hone may read it, so a new field needs a
default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter

from ...recipe.strict import Strict
from ..specs.check import TensorFact

LONGEST_LINE = 32 << 20  # characters of an entry
_LONGEST_NAME = 5000


def _inside(path: str) -> str:
    """A path of an artifact, which must stay in its run."""
    parts = PurePosixPath(path).parts
    if "\0" in path or "\\" in path or ".." in parts or path.startswith("/"):
        raise ValueError("it leads out of the run")
    return path


#: Of a run or a model, in the journal.
Ref = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]
#: A path among the artifacts of a run.
Inside = Annotated[str, Field(max_length=_LONGEST_NAME), AfterValidator(_inside)]


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
    ref: Ref
    name: str
    tags: dict[str, str]


class MetricEntry(Strict):
    """One metric of a run; with `model`, also of the candidate's LoggedModel."""

    model_config = ConfigDict(  # a loss may be NaN, and an error infinite
        frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants"
    )

    op: Literal["metrics"] = "metrics"
    ref: Ref
    name: str
    value: float
    step: int
    time_ms: int
    model: str | None = None


class ParamsEntry(Strict):
    op: Literal["params"] = "params"
    ref: Ref
    values: dict[str, str]


class TagsEntry(Strict):
    op: Literal["tags"] = "tags"
    ref: Ref
    values: dict[str, str]


#: Of these, many go into one request.
Values = MetricEntry | ParamsEntry | TagsEntry


class TextEntry(Strict):
    """A text as an artifact `file`."""

    op: Literal["text"] = "text"
    ref: Ref
    content: str
    file: Inside


class FolderEntry(Strict):
    """The files of a folder as artifacts under `path`."""

    op: Literal["folder"] = "folder"
    ref: Ref
    folder: str
    path: Inside


class DatasetEntry(Strict):
    """A data set as an input of a run.

    Attributes:
        name: Of the data.
        digest: Of samples of it.
        source: The recipe's data factory with its arguments.
        profile: Samples of each split.
        contexts: What it is used for. MLflow keeps one context of a data set in a run: the first.
    """

    op: Literal["dataset"] = "dataset"
    ref: Ref
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
        outputs: All of them by the model's own names, the main one first; an earlier Hone wrote
            none.
        example: File of real inputs; empty if no data may leave.
        proof: Folder of the proof that the model carries; empty if it carries none.
        proof_kind: `inputs` or `synthetic`.
        requirements: Distributions that loading it requires, for pip.
        params: What it was made from: variant, target, recipe.
        tags: `hone.sha256` and `hone.candidate`, which identify it.
    """

    op: Literal["model"] = "model"
    ref: Ref
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
    proof: str = ""
    outputs: dict[str, TensorFact] = Field(default_factory=dict)
    proof_kind: Literal["inputs", "synthetic"] = "inputs"


class FinishEntry(Strict):
    """End a run."""

    op: Literal["finish"] = "finish"
    ref: Ref
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
    if len(line) > LONGEST_LINE:
        return UnreadableEntry(line[:200])
    try:
        return _ENTRY.validate_json(line)
    except ValueError:
        return UnreadableEntry(line)


def model_key(ref: str) -> str:
    """The key of a candidate's LoggedModel, among the ids of runs."""
    return f"model:{ref}"


def is_model_key(key: str) -> bool:
    return key.startswith("model:")
