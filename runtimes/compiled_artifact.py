"""What a target notes in the artifact that it compiles, for who opens it: `settings.json`."""

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
    """A compiled model, besides the files of its runtime.

    Attributes:
        runtime: Name of what opens it: `NAME_runtime.py` of this room.
        inputs: Names of the inputs in the model's order, where the runtime takes them by position.
        batch_sizes: The sizes that it is compiled for; None: any, by one program.
        settings: What the runtime's `load` needs to know besides; plain data.
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
        """How the batch axis is, in words."""
        return "dynamic" if self.batch_sizes is None else f"fixed: {list(self.batch_sizes)}"
