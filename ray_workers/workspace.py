"""What a step gets to work with, and what it gives back.

A step is a plain function of a `Workspace`: it reads its spec and its input folders, writes output
folders, reports progress, and returns a `Result`. It doesn't know where it runs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ..recipe.factories import Allowed, use_code
from ..recipe.strict import Strict
from ..runtimes.predict import LoadOptions
from .events import Note, Progress, Report
from .store.artifacts import Artifact, Store

S = TypeVar("S")


@dataclass
class Workspace(Generic[S]):
    """The surroundings of one run of a step.

    Attributes:
        spec: What the step was asked to do; its type is the one that the step's function names.
        inputs: Folder of each input artifact; not to be written to.
        scratch: An empty folder of its own.
        report: Sends an event to whoever watches.
        allowed: Which factories may be called.
        store_url: Where checkpoints go.
        cache_url: Local folder for artifacts of a remote store.
        key: The step's cache key; the same work has the same key.
        lineage: The same for every placement of the same work; its checkpoints are kept under it.
        code: The recipe's code folder as an artifact.
        cpus: CPU cores that the step may use.
    """

    spec: S
    inputs: dict[str, Path]
    scratch: Path
    report: Report
    allowed: Allowed
    store_url: str
    cache_url: str
    key: str
    lineage: str = ""
    code: Artifact | None = None
    cpus: float = 1
    outputs: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Tell the user a sentence."""
        self.report(Note(text))

    def progress(self, done: float, total: float) -> None:
        """Tell how far the step is."""
        self.report(Progress(done, total))

    def loader_options(self, threads: int, further: Mapping[str, Any]) -> LoadOptions:
        """Options for what opens an artifact; what needs further ones is given the user's code.

        Args:
            threads: Of the runtime.
            further: Plain data.
        """
        if not further:
            return {"threads": threads}
        code = None
        if self.code is not None:
            code = str(Store(self.store_url, Path(self.cache_url)).fetch(self.code))
        allowed = self.allowed.model_dump(mode="json")
        options = {"threads": threads, **further, "code": code, "allowed": allowed}
        return cast(LoadOptions, options)

    def output(self, name: str, kind: str) -> Path:
        """A new folder that becomes the output artifact `name`."""
        folder = self.scratch / "outputs" / name
        folder.mkdir(parents=True)
        self.outputs[name] = (folder, kind)
        return folder


@dataclass
class Result:
    """What a step found out.

    Attributes:
        metrics: Numbers under their MLflow names (`quality/accuracy`).
        params: What it decided or found, for MLflow parameters.
        facts: Anything else that later steps need.
        notes: Sentences for the user.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    facts: Strict | None = None
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def user_code(code: Artifact | None, store_url: str, cache_url: str) -> Iterator[None]:
    """With the recipe's code folder on the path, and prints of user code on standard error."""
    if code is not None:
        use_code(Store(store_url, Path(cache_url)).fetch(code))
    with contextlib.redirect_stdout(sys.stderr):
        yield
