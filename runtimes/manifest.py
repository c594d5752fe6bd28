"""The manifest of a model: the sha256 of each file in its folder, MLflow's own files included.

Its digest identifies everything that MLflow would load or run: the artifact, `MLmodel` with the
name of the loader, requirements, and the wheel. The registry keeps it as a tag of the version.
"""

from __future__ import annotations

import json
from pathlib import Path

from .digest import digests_in, tree_digest

#: In the model's folder; lists all other files.
MANIFEST = "hone-manifest.json"
#: MLflow writes it into the folder when it downloads a version.
DOWNLOADED = "registered_model_meta"
#: Folders in which a file that the manifest does not list could be run or opened.
_CLOSED = ("data/", "code/")


def model_files(folder: Path) -> dict[str, str]:
    """sha256 of each file of a model by its path, with the manifest.

    Raises:
        ValueError: The folder is empty, or holds a link.
    """
    files = digests_in(folder)
    files.pop(DOWNLOADED, None)
    return files


def write_manifest(folder: Path) -> dict[str, str]:
    """Write the manifest of a model's folder; returns `model_files`."""
    files = model_files(folder)
    text = json.dumps({"files": files}, indent=1, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return model_files(folder)


def read_manifest(folder: Path) -> dict[str, str] | None:
    """What the manifest lists; None if the model has none, because an earlier Hone wrote it.

    Raises:
        ValueError: It is not a manifest.
    """
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    files = said.get("files") if isinstance(said, dict) else None
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
        raise ValueError("it does not list files")
    return {str(path): digest for path, digest in files.items()}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Files that were changed, added or removed, in order."""
    return sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))


def that_matter(files: dict[str, str], listed: dict[str, str]) -> dict[str, str]:
    """Files without those that somebody put at the top of the folder, which nothing opens."""
    return {p: d for p, d in files.items() if p in listed or p == MANIFEST or p.startswith(_CLOSED)}


def manifest_digest(files: dict[str, str]) -> str:
    """The digest of `model_files`, as the registry keeps it."""
    return tree_digest(files)
