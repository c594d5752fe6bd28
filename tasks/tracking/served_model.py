"""The registered model: what `mlflow.pyfunc.load_model` loads. Holds no pickle and runs no code
from the model's folder: `hone.json` names a target, and that target's `load` opens the files.
"""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any

from ...ray_workers.runtime_process import RuntimeProcess
from ...ray_workers.store.artifacts import describe
from ...recipe.errors import StoreError
from ...recipe.targets import target_class
from ...runtimes.isolated.environment import interpreter_for
from ..steps import target_module

log = logging.getLogger("hone")

SETTINGS = "hone.json"
FILES = "artifact"


class ServedModel:
    """A candidate as MLflow serves it: numpy arrays in, the main output out."""

    def __init__(self, run: Any, inputs: list[str]) -> None:
        self._run = run
        self._inputs = inputs

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Outputs (N, ...) for a batch: an array (N, ...), or arrays by input name."""
        import numpy as np

        if isinstance(model_input, dict):
            return self._run({name: np.asarray(model_input[name]) for name in self._inputs})
        if len(self._inputs) > 1:
            raise TypeError(f"the model takes a dictionary of arrays: {', '.join(self._inputs)}")
        return self._run({self._inputs[0]: np.asarray(model_input)})


def _load_pyfunc(data_path: str) -> ServedModel:
    """MLflow's entry point.

    Raises:
        StoreError: The files are not those that were measured.
    """
    folder = Path(data_path)
    settings = json.loads((folder / SETTINGS).read_text())
    artifact = describe(folder / FILES, settings["kind"], data_path)
    if artifact.sha256 != settings["sha256"]:
        raise StoreError(
            f"these are not the bytes that were measured (sha256 {artifact.sha256[:12]}, expected "
            f"{settings['sha256'][:12]})",
            where=data_path,
        )
    path = target_module(settings["target"])
    own = target_class(settings["target"]).environment
    if own is not None:
        process = RuntimeProcess(
            f"{path}:load", folder / FILES, settings["options"],
            python=interpreter_for(own, log.info),
        )  # fmt: skip
        process.wait_loaded()
        return ServedModel(process.predict, settings["inputs"])
    module = importlib.import_module(path)
    return ServedModel(module.load(folder / FILES, settings["options"]), settings["inputs"])
