"""The bytes that MLflow holds of a model, and whether they are those that were measured.

Files are read as data. Only what holds the measured bytes is opened, if its proof is asked for, by
its runtime in a process of its own (`self_proof.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pydantic import Field

from ...ray_workers.scratch import scratch_folder
from ...recipe.errors import InputError
from ...recipe.strict import Strict
from ...runtimes.digest import tree_digest
from ...runtimes.manifest import MANIFEST, differences, manifest_digest, model_files, read_manifest
from ...runtimes.served_model import DATA, FILES
from . import names
from .away import is_away
from .lookup import found_or_none, named_version
from .self_proof import SelfProof, prove_version

_MOST_FILES = 10_000  # a version may name any folder of this machine as its place


class Verdict(Strict):
    """Whether a version of the registry holds what was measured.

    Attributes:
        model: The registered model.
        version: Its version.
        expected: Digest of the measured files, from the version's tag; None if it has none,
            because an earlier Hone or somebody else registered it.
        found: Digest of the files that the registry holds.
        changed: Files that the manifest beside them doesn't list so; empty if all were rewritten.
        artifact: sha256 of the compiled artifact among the files; empty if there is none.
        proof: Whether the model gives the measured outputs here; None if that was not tried.
    """

    model: str
    version: str
    expected: str | None
    found: str
    changed: tuple[str, ...] = Field(())
    artifact: str = ""
    proof: SelfProof | None = None

    @property
    def holds(self) -> bool:
        """Whether the files are the measured ones."""
        return self.expected == self.found

    @property
    def passes(self) -> bool:
        """Whether they are, and the model does here what was measured, as far as that was tried."""
        return self.holds and (self.proof is None or not self.proof.refuses)

    @property
    def sentence(self) -> str:
        which = f"version {self.version} of {self.model}"
        if self.holds:
            said = f"{which} holds what was measured (sha256 {self.found[:12]})"
            return said if self.proof is None else f"{said}; {self.proof.sentence}"
        if self.expected is None:
            return f"{which} has no digest of what was measured, so it can't be verified"
        what = f"{', '.join(self.changed[:5])} differ" if self.changed else "its files were changed"
        if self.found == manifest_digest({}):
            return f"{which} does not hold what was measured: its files are gone"
        return (
            f"{which} does not hold what was measured: {what} (sha256 {self.found[:12]}, "
            f"measured {self.expected[:12]})"
        )


def verify(tracking: str, name: str, version: str) -> Verdict:
    """Compare a version's files with the digest that was taken when they were measured; if they
    are the same, run the proof that it carries.

    Args:
        tracking: The tracking server, which is the registry too.
        name: The registered model.
        version: Its version, or `@ALIAS`.

    Raises:
        InputError: There is no such version.
    """
    client, found = required_version(tracking, name, version)
    return verify_version(tracking, client, found, prove=True)


def required_version(tracking: str, name: str, version: str) -> tuple[Any, Any]:
    """A client of the registry, and a version as MLflow has it.

    Raises:
        InputError: There is none.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    found = found_or_none(lambda: named_version(client, name, version), client, name)
    if found is None:
        at = version if version.startswith("@") else f" version {version}"
        raise InputError(f"the registry has no {name}{at}", where=tracking)
    return client, found


def verify_version(tracking: str, client: Any, version: Any, *, prove: bool = False) -> Verdict:
    """`verify` for a version that was already fetched.

    Args:
        tracking: The tracking server.
        client: Of it.
        version: As MLflow has it.
        prove: Whether to run its proof, if its files are the measured ones.
    """
    expected, proof = dict(version.tags).get(names.DIGEST), None
    place = found_or_none(lambda: location(client, version))
    with fetched(tracking, place) if place else contextlib.nullcontext() as folder:
        files = _files(folder)
        try:
            listed = (read_manifest(folder) if folder is not None else None) or {}
        except (OSError, ValueError):
            listed = {}
        found = manifest_digest(files)
        if prove and folder is not None and found == expected:
            proof = prove_version(folder)
    changed = differences(listed, {p: d for p, d in files.items() if p != MANIFEST})
    return Verdict(
        model=version.name,
        version=str(version.version),
        expected=expected,
        found=found,
        changed=tuple(changed),
        artifact=_artifact(files),
        proof=proof,
    )


def _artifact(files: dict[str, str]) -> str:
    """sha256 of the compiled artifact of a model with these files; empty if it has none."""
    place = f"{DATA / FILES}/"
    found = {n.removeprefix(place): d for n, d in files.items() if n.startswith(place)}
    return tree_digest(found) if found else ""


def held_files(tracking: str, model_id: str) -> dict[str, str]:
    """sha256 of each file of a logged model; empty if it can't be told.

    Raises:
        Exception: MLflow's own error.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking)
    return held_at(tracking, str(client.get_logged_model(model_id).artifact_location))


def held_at(tracking: str, place: str) -> dict[str, str]:
    """sha256 of each file of a model at a location of MLflow's artifacts; empty if it has none."""
    with fetched(tracking, place) as folder:
        return _files(folder)


def held_and_proven(
    tracking: str, model_id: str, expected: dict[str, str]
) -> tuple[dict[str, str], SelfProof | None]:
    """`held_files`, and if they are the expected ones, the proof that the model carries.

    Args:
        tracking: The tracking server.
        model_id: The logged model.
        expected: sha256 of each file.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking)
    place = str(client.get_logged_model(model_id).artifact_location)
    with fetched(tracking, place) as folder:
        files = _files(folder)
        if folder is None or files != expected:
            return files, None
        return files, prove_version(folder)


def same_store(place: str, other: str) -> bool:
    """Whether two locations are in one store: by their scheme and host."""
    return urlparse(place)[:2] == urlparse(other)[:2]


def location(client: Any, version: Any) -> str:
    """Where MLflow reads a version from, when it is loaded."""
    return str(client.get_model_version_download_uri(version.name, version.version))


@contextlib.contextmanager
def fetched(tracking: str, place: str) -> Iterator[Path | None]:
    """The files of a location, those on this machine where they are; None if it can't be read."""
    import mlflow
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlparse(place).scheme in ("", "file"):  # not `mlflow-artifacts:/`, which has no host
        yield Path(local_file_uri_to_path(place))
        return
    with scratch_folder("verify") as scratch:
        folder: Path | None = None
        try:
            folder = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=place, dst_path=str(scratch), tracking_uri=tracking
                )
            )
        except Exception as error:
            if is_away(error):
                raise
        yield folder


def _files(folder: Path | None) -> dict[str, str]:
    """`model_files`; empty if these can't be a model's: none, a link, far too many."""
    if folder is None or len(list(islice(folder.rglob("*"), _MOST_FILES + 1))) > _MOST_FILES:
        return {}
    try:
        return model_files(folder)
    except (OSError, ValueError):
        return {}
