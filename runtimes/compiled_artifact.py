"""What a target writes into its artifact for the runtime that opens it: `settings.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import RuntimeFailed

#: Largest batch size that a program is compiled for.
_LARGEST = 2**20
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
        outputs: The model's own names of its outputs, the main one first; none if it has one only.
    """

    runtime: str
    inputs: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        (folder / SETTINGS).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> CompiledArtifact:
        """Read the description of an artifact.

        Raises:
            RuntimeFailed: It is not one.
        """
        said = plain_object(folder / SETTINGS)
        runtime, inputs = said.get("runtime"), said.get("inputs")
        sizes, settings = said.get("batch_sizes"), said.get("settings")
        outputs = said.get("outputs", [])  # an earlier Hone wrote none
        for name, good in {
            "runtime": isinstance(runtime, str),
            "inputs": is_list_of(str, inputs),
            "outputs": is_list_of(str, outputs),
            "batch_sizes": sizes is None
            or (is_list_of(int, sizes) and bool(sizes) and all(0 < s <= _LARGEST for s in sizes)),
            "settings": isinstance(settings, dict),
        }.items():
            if not good:
                raise RuntimeFailed(
                    f"'{name}' is not what a compiled artifact has there",
                    where=str(folder / SETTINGS),
                )
        return CompiledArtifact(
            runtime=said["runtime"],
            inputs=tuple(said["inputs"]),
            outputs=tuple(outputs),
            batch_sizes=None if sizes is None else tuple(sizes),
            settings=said["settings"],
        )

    @property
    def batch_axis(self) -> str:
        """The kind of batch axis, in words."""
        return "dynamic" if self.batch_sizes is None else f"fixed: {list(self.batch_sizes)}"


def plain_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that came with a model.

    Raises:
        RuntimeFailed: There is no file, or it holds something else.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RuntimeFailed(f"it can't be read: {error}"[:200], where=str(path)) from error
    if not isinstance(said, dict):
        raise RuntimeFailed("it does not describe a compiled artifact", where=str(path))
    return said


def is_list_of(kind: type, value: object) -> bool:
    """Whether a JSON value is a list of texts, or of whole numbers."""
    return isinstance(value, list) and all(type(item) is kind for item in value)
