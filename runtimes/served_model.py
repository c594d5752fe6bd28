"""The registered model: what `mlflow.pyfunc.load_model` loads. It has no pickle and runs no code
from the model's folder: the artifact's settings name a runtime, and that runtime opens its files.

The files are compared with the digest that the registry keeps, where a version is loaded from a
registry, and with the manifest beside them. The manifest alone finds damage and careless changes;
somebody who may write all the files can write a manifest, too. MLflow reads `MLmodel` first, so a
changed `MLmodel` that names another loader never gets here: `tasks/tracking/registered_bytes.py`
compares a version without loading it.

Then the model proves itself (`proof.py`): it computes outputs that were measured again.

Every registered model contains this module's import path, so this module must not move.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .compiled_artifact import is_list_of, plain_object
from .digest import digests_in, tree_digest
from .errors import ArtifactChanged, RuntimeFailed
from .manifest import (
    DOWNLOADED,
    MANIFEST,
    differences,
    manifest_digest,
    model_files,
    read_manifest,
    that_matter,
)
from .opening import open_artifact
from .predict import LoadOptions, Outputs, Predict
from .proof import prove
from .registered_version import registered_digest

#: Of a runtime; more would only take the memory of the machine that serves.
_MOST_THREADS = 1024

log = logging.getLogger("hone")

#: In the model's data: its description, and the folder with the artifact's files.
DESCRIPTION = "hone.json"
FILES = "artifact"
#: The data in a model's folder, as MLflow writes a pyfunc model.
DATA = Path("data", "data")
#: Files by which the folder of the whole model is known.
_AT_THE_TOP = (MANIFEST, DOWNLOADED, "MLmodel")


@dataclass(frozen=True)
class ModelDescription:
    """Description of a registered model.

    Attributes:
        sha256: Of the artifact that was measured.
        inputs: Names of its inputs, in the model's order.
        options: Options that it was measured with (`threads`), plain data.
        proof: The kind of proof that it carries; None if it has none.
    """

    sha256: str
    inputs: tuple[str, ...]
    options: LoadOptions
    proof: Literal["inputs", "synthetic"] | None = None

    def write(self, folder: Path) -> None:
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> ModelDescription:
        """Read the description of a registered model.

        Raises:
            RuntimeFailed: It is not one.
        """
        said = plain_object(folder / DESCRIPTION)
        sha256, inputs, options = (said.get(name) for name in ("sha256", "inputs", "options"))
        threads = options.get("threads") if isinstance(options, dict) else None
        for name, good in {
            "sha256": isinstance(sha256, str),
            "inputs": is_list_of(str, inputs) and bool(inputs),
            "options": isinstance(options, dict),
            "threads": type(threads) is int and 0 < threads <= _MOST_THREADS,
            "proof": said.get("proof") in (None, "inputs", "synthetic"),
        }.items():
            if not good:
                raise RuntimeFailed(
                    f"'{name}' is not what a registered model has there",
                    where=str(folder / DESCRIPTION),
                )
        return ModelDescription(
            said["sha256"], tuple(said["inputs"]), said["options"], said.get("proof")
        )


class ServedModel:
    """A candidate as MLflow serves it: numpy arrays in, the outputs out."""

    def __init__(self, predict: Predict, inputs: tuple[str, ...]) -> None:
        self._predict = predict
        self._inputs = inputs

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Outputs:
        """Outputs (N, ...) for a batch: an array (N, ...), or arrays by input name.

        One output is an array, several are a dictionary by the model's own names, first the one
        that quality was measured by.
        """
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
        Unproven: On this machine, its outputs are not within what was measured.
    """
    return _opened(Path(data_path), None)


def open_model(folder: str | Path, digest: str | None = None) -> ServedModel:
    """Open a model without MLflow, whose import takes longer than all else.

    Args:
        folder: The model's folder, as `mlflow artifacts download -u models:/NAME@ALIAS` makes it.
        digest: sha256 of all its files as the registry has it (the version's tag `hone.digest`);
            None: they are only compared with the manifest beside them.

    Raises:
        RuntimeFailed: There is no model of Hone's in it.
        ArtifactChanged: The files are not those that were measured.
        RuntimeMissing: The runtime is not installed.
        Unproven: On this machine, its outputs are not within what was measured.
    """
    return _opened(Path(folder) / DATA, digest)


def _opened(folder: Path, digest: str | None) -> ServedModel:
    described = ModelDescription.read(folder)
    try:
        _check(folder, described, digest)
    except ValueError as error:
        raise ArtifactChanged(
            f"the files differ from the measured artifact: {error}", where=str(folder)
        ) from error
    predict = open_artifact(folder / FILES, described.options, log.info)
    if described.proof is not None:
        prove(folder, folder / FILES, int(described.options.get("threads", 1)), predict)
    return ServedModel(predict, described.inputs)


def _check(folder: Path, described: ModelDescription, digest: str | None) -> None:
    """Compare the files with what was measured and logged.

    Args:
        folder: The model's data.
        described: Its description.
        digest: Of all files, as the registry has it; None: it is asked, where MLflow knows it.

    Raises:
        ValueError: They differ; with the reason.
    """
    own = folder.resolve()
    root = next((f for f in own.parents[:2] if any((f / n).exists() for n in _AT_THE_TOP)), own)
    listed, said = read_manifest(root), digest or registered_digest(root)
    if listed is None and said is not None:
        raise ValueError("the model's manifest is missing")
    if listed is None:  # an earlier Hone logged it
        held = digests_in(own / FILES)
    else:
        found = that_matter(model_files(root), listed)
        beside = {path: digest for path, digest in found.items() if path != MANIFEST}
        if changed := differences(listed, beside):
            raise ValueError(f"{changed[0]} is not as the model's manifest lists it")
        if said is not None and said != manifest_digest(found):
            raise ValueError(
                f"all files together have sha256 {manifest_digest(found)[:12]}, the registry "
                f"says {said[:12]}"
            )
        inner = f"{(own / FILES).relative_to(root).as_posix()}/"
        held = {p.removeprefix(inner): d for p, d in beside.items() if p.startswith(inner)}
    artifact = tree_digest(held)
    if artifact != described.sha256:
        raise ValueError(f"sha256 {artifact[:12]}, expected {described.sha256[:12]}")
