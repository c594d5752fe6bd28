"""A candidate as MLflow keeps it: the pyfunc flavor with our loader, and a manifest of all files.

The same candidate gives the same bytes, in every run: no time, no id of a run is in them. So what
MLflow holds can be compared with what this run would log.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ...ray_workers.store.whole_files import copy_files
from ...recipe.errors import HoneError
from ...runtimes import served_model
from ...runtimes.digest import digests_in, tree_digest
from ...runtimes.manifest import write_manifest
from ...runtimes.predict import LoadOptions
from ...runtimes.proof import PROOF, Proof
from ...runtimes.served_model import FILES, ModelDescription
from .entries import ModelEntry
from .runtime_wheel import build_wheel

#: In place of the time, which would make equal models differ. MLflow has it in its own record.
_NO_TIME = "1970-01-01 00:00:00"


def write_model(entry: ModelEntry, folder: Path, scratch: Path) -> dict[str, str]:
    """Write a candidate's model; returns the sha256 of each of its files.

    Args:
        entry: The candidate.
        folder: Where to; it must not exist.
        scratch: An empty folder for files in between.

    Raises:
        HoneError: The artifact is not what was measured.
    """
    import mlflow
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec
    from safetensors.numpy import load_file

    inputs, outputs = entry.inputs, entry.outputs
    single = list(inputs) == ["input"]
    several = len(outputs) > 1
    shown_outputs = outputs if several else {"output": entry.output}
    signature = ModelSignature(
        inputs=Schema([
            TensorSpec(np.dtype(spec.dtype), (-1, *spec.shape), None if single else name)
            for name, spec in inputs.items()
        ]),
        outputs=Schema([
            TensorSpec(np.dtype(spec.dtype), (-1, *spec.shape), name if several else None)
            for name, spec in shown_outputs.items()
        ]),
    )  # fmt: skip
    data = scratch / "data"
    copy_files(Path(entry.folder), data / FILES)
    proof = None
    if entry.proof:
        copy_files(Path(entry.proof), data / PROOF)
        proof = Proof.read(data / PROOF)
    shown = load_file(entry.example) if entry.example else proof.inputs if proof else None
    example = {name: value[:2] for name, value in shown.items()} if shown else None
    held = tree_digest(digests_in(data / FILES))
    if held != entry.sha256:
        raise HoneError(
            f"the artifact of {entry.ref} is not the one that was measured (sha256 {held[:12]}, "
            f"measured {entry.sha256[:12]})",
            where=entry.folder,
        )
    options = cast(LoadOptions, entry.options)
    kind = entry.proof_kind if entry.proof else None
    ModelDescription(entry.sha256, tuple(inputs), options, kind).write(data)
    wheel = build_wheel(scratch / "wheel")
    # The high-level `log_model` would load the runtime into this process to try it out.
    mlflow.pyfunc.save_model(
        str(folder),
        mlflow_model=Model(utc_time_created=_NO_TIME, model_uuid=entry.sha256[:32]),
        loader_module=served_model.__name__,
        data_path=str(data),
        signature=signature,
        input_example=example["input"] if single and example else example,
        # The wheel is copied to code/, and required by its path in the model's folder:
        # https://mlflow.org/docs/latest/ml/model/dependencies/
        code_paths=[str(wheel)],
        pip_requirements=[*_mlflow(), f"code/{wheel.name}", *entry.requirements],
    )
    return write_manifest(folder)


def _mlflow() -> list[str]:
    """What loads and serves a pyfunc model; MLflow itself would bring 500 MB for its own server."""
    from importlib.metadata import version

    return [f"mlflow-skinny=={version('mlflow-skinny')}", f"pandas=={version('pandas')}"]
