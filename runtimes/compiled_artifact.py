"""What a target writes into its artifact for the runtime that opens it: `settings.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: The file in the artifact.
SETTINGS = "settings.json"


@dataclass(frozen=True)
class CompiledArtifact:
    """Description of a compiled model, beside the files of its runtime.

    Attributes:
        runtime: Name of its runtime: `NAME_runtime.py` in this room.
        inputs: Names of the inputs in the model's order, if the runtime takes them by position.
        batch_sizes: The sizes that it is compiled for; None: any, with one program.
        settings: What else the runtime's `load` needs to know; plain data.
    """

    runtime: str
    inputs: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / SETTINGS).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> CompiledArtifact:
        said = json.loads((folder / SETTINGS).read_text())
        sizes = said["batch_sizes"]
        return CompiledArtifact(
            runtime=str(said["runtime"]),
            inputs=tuple(said["inputs"]),
            batch_sizes=None if sizes is None else tuple(sizes),
            settings=said["settings"],
        )

    @property
    def batch_axis(self) -> str:
        """The kind of batch axis, in words."""
        return "dynamic" if self.batch_sizes is None else f"fixed: {list(self.batch_sizes)}"
