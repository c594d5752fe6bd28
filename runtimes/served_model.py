"""The registered model: what `mlflow.pyfunc.load_model` loads. It has no pickle and runs no code
from the model's folder: the artifact's settings name a runtime, and that runtime opens its files.

Every registered model contains this module's import path, so this module must not move.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .digest import digests_in, tree_digest
from .errors import ArtifactChanged
from .opening import open_artifact
from .predict import Array, LoadOptions, Predict

log = logging.getLogger("hone")

#: In the model's data: its description, and the folder with the artifact's files.
DESCRIPTION = "hone.json"
FILES = "artifact"


@dataclass(frozen=True)
class ModelDescription:
    """Description of a registered model.

    Attributes:
        sha256: Of the artifact that was measured.
        inputs: Names of its inputs, in the model's order.
        options: Options that it was measured with (`threads`), plain data.
    """

    sha256: str
    inputs: tuple[str, ...]
    options: LoadOptions

    def write(self, folder: Path) -> None:
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> ModelDescription:
        said = json.loads((folder / DESCRIPTION).read_text())
        return ModelDescription(said["sha256"], tuple(said["inputs"]), said["options"])


class ServedModel:
    """A candidate as MLflow serves it: numpy arrays in, the main output out."""

    def __init__(self, predict: Predict, inputs: tuple[str, ...]) -> None:
        self._predict = predict
        self._inputs = inputs

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Array:
        """Outputs (N, ...) for a batch: an array (N, ...), or arrays by input name."""
        if isinstance(model_input, dict):
            return self._predict({name: np.asarray(model_input[name]) for name in self._inputs})
        if len(self._inputs) > 1:
            raise TypeError(f"the model takes a dictionary of arrays: {', '.join(self._inputs)}")
        return self._predict({self._inputs[0]: np.asarray(model_input)})


def artifact_digest(folder: Path) -> str:
    """sha256 of the artifact in a model's data folder."""
    return tree_digest(digests_in(folder / FILES))


def _load_pyfunc(data_path: str) -> ServedModel:
    """MLflow's entry point.

    Raises:
        ArtifactChanged: The files are not those that were measured.
        RuntimeMissing: The runtime is not installed.
    """
    folder = Path(data_path)
    described = ModelDescription.read(folder)
    found = artifact_digest(folder)
    if found != described.sha256:
        raise ArtifactChanged(
            f"the files differ from the measured artifact (sha256 {found[:12]}, expected "
            f"{described.sha256[:12]})",
            where=data_path,
        )
    return ServedModel(open_artifact(folder / FILES, described.options, log.info), described.inputs)
