"""Which files of a recipe's code folder go to the workers, into the store and to MLflow.

Shipped are Python modules and data of known kinds. A folder of code collects other things too:
keys, passwords, environments. What has such a name, is a link, or is of another kind stays, and
`hone plan` tells of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from ...recipe.regular_files import looks_secret

_LARGEST = 64 * 2**20  # bytes
#: Left out everywhere without a word, like hidden files.
_CACHES = {"__pycache__", "node_modules", "mlruns", "mlartifacts", "build", "dist"}
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
_MODULES = {".py", ".pyi", ".so", ".pyd"}
_SOURCES = {".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".proto", ".pyx", ".pxd"}
_DATA = {
    ".arrow", ".bin", ".bpe", ".cfg", ".csv", ".feather", ".gz", ".h5", ".hdf5", ".html", ".jinja",
    ".jpeg", ".jpg", ".json", ".jsonl", ".merges", ".model", ".npy", ".npz", ".onnx", ".parquet",
    ".pickle", ".pkl", ".png", ".pt", ".pth", ".safetensors", ".spm", ".sql", ".toml", ".tsv",
    ".txt", ".typed", ".vocab", ".wav", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip
_RECIPES = {".toml", ".yaml", ".yml"}


@dataclass(frozen=True)
class ShippedCode:
    """The files of a code folder.

    Attributes:
        folder: The folder.
        files: What is shipped, by relative path.
        size: Of these files together (bytes).
        left_out: What is not, and why as a clause, by relative path.
    """

    folder: Path
    files: dict[str, Path]
    size: int
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "files": list(self.files), "bytes": self.size,
            "left_out": self.left_out,
        }  # fmt: skip


def shipped_code(folder: Path) -> ShippedCode:
    """The files of a code folder that are shipped, and those that are not.

    Hidden files, caches, Markdown and the recipes at its top level are left out without a word.

    Raises:
        InputError: It does not exist, or is too large to be code.
    """
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=f"code: {folder}", do="give the folder of your modules"
        )
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    size = 0
    for here, folders, names in os.walk(folder):
        inside = []
        for name in sorted(folders):
            path = Path(here, name)
            why = _folder_stays(path)
            if why is None:
                inside.append(name)
            elif why:
                left_out[f"{path.relative_to(folder).as_posix()}/"] = why
        folders[:] = inside
        for name in sorted(names):
            path = Path(here, name)
            relative = path.relative_to(folder).as_posix()
            why = _file_stays(path, top=Path(here) == folder)
            if why:
                left_out[relative] = why
            if why is not None:
                continue
            files[relative] = path
            size += path.stat().st_size
            if size > _LARGEST:
                raise InputError(
                    f"the folder holds more than {_LARGEST // 2**20} MB; it is shipped to every "
                    "worker",
                    where=f"code: {folder}",
                    do="point `code` at a folder with only your modules, and read data from "
                    "elsewhere",
                )
    return ShippedCode(folder, dict(sorted(files.items())), size, left_out)


def _folder_stays(path: Path) -> str | None:
    """Why a folder is not shipped; empty if that goes without saying, None if it is shipped."""
    if path.name.startswith(".") or path.name in _CACHES or path.name.endswith(".egg-info"):
        return ""
    if path.is_symlink():
        return "a link"
    if path.name == "site-packages" or any((path / name).exists() for name in _ENVIRONMENTS):
        return "a Python environment"
    return "named like secrets" if looks_secret(path.name) else None


def _file_stays(path: Path, top: bool) -> str | None:
    """Why a file is not shipped; empty if that goes without saying, None if it is shipped."""
    kind = path.suffix.lower()
    if looks_secret(path.name):
        return "named like a key or a password"
    if path.name.startswith(".") or path.name in _CACHES or kind in (".pyc", ".md"):
        return ""
    if top and kind in _RECIPES:
        return ""
    if path.is_symlink():
        return "a link"
    if not path.is_file():
        return "not a regular file"
    if kind not in _MODULES | _SOURCES | _DATA:
        return "neither a Python module nor data of a known kind"
    return None
