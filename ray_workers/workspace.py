"""A step's inputs and surroundings, and its result.

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
from ..runtimes.outside_code import guard_imports
from ..runtimes.predict import LoadOptions
from .data.turns import Shared
from .events import Note, Progress, Report
from .store.artifacts import Artifact, Store

S = TypeVar("S")


@dataclass
class Workspace(Generic[S]):
    """Everything that one execution of a step works with.

    Attributes:
        spec: What the step is asked to do, of the type that the step's function declares.
        inputs: Folder of each input artifact; read-only.
        scratch: An empty folder for temporary files.
        report: Sends an event to the observers of the run.
        allowed: Which factories may be called.
        store_url: Where checkpoints go.
        cache_url: Local folder for artifacts of a remote store.
        checkpoint_key: Signs the records of checkpoints.
        key: The step's cache key; the same work has the same key.
        lineage: The same for every placement of the same work; names its checkpoints.
        code: The recipe's code folder as an artifact.
        cpus: CPU cores that the step may use.
        shared: The data that other steps of the run got from slow factories.
    """

    spec: S
    inputs: dict[str, Path]
    scratch: Path
    report: Report
    allowed: Allowed
    store_url: str
    cache_url: str
    key: str
    checkpoint_key: str = field(default="", repr=False)
    lineage: str = ""
    code: Artifact | None = None
    cpus: float = 1
    shared: Shared | None = None
    outputs: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Send the user a message."""
        self.report(Note(text))

    def progress(self, done: float, total: float) -> None:
        """Report progress."""
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
    """The result of a step, besides its output artifacts.

    Attributes:
        metrics: Numbers under their MLflow names (`quality/accuracy`).
        params: What it decided or found, for MLflow parameters.
        facts: Anything else that later steps need.
        notes: Messages for the user.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    facts: Strict | None = None
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def user_code(
    code: Artifact | None, store_url: str, cache_url: str, allowed: Allowed
) -> Iterator[None]:
    """A context with the code folder on the import path, and stdout redirected to stderr.

    Modules that are neither shipped, nor installed, nor known to `allowed` can't be imported.
    """
    folder = None
    if code is not None:
        sys.dont_write_bytecode = True  # an artifact stays as it is
        folder = Store(store_url, Path(cache_url)).fetch(code)
        use_code(folder)
    guard_imports(allowed.outside, None if folder is None else str(folder))
    with contextlib.redirect_stdout(sys.stderr):
        yield
