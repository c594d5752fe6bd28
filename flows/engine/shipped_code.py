"""Which files of a recipe's code folder go to the workers, into the store and to MLflow.

Shipped is what code can import, and the data that it needs: files in a package, files that the code
or the recipe's arguments name, and those of `code_files`. A folder of code collects other things
too: keys, environments, reports, the output of `hone run --json > out.json`. These stay, change no
cache key, and `hone plan` lists them.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from ...recipe.measures import bytes_in_words
from ...recipe.regular_files import looks_secret
from ...recipe.schema import Recipe
from ...recipe.syntax import syntax_tree

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


def shipped_code(folder: Path, recipe: Recipe | None = None) -> ShippedCode:
    """The files of a code folder that are shipped, and those that are not.

    Hidden files, caches, Markdown and the recipes at its top level are left out without a word. A
    link is followed if it stays in the folder.

    Args:
        folder: The code folder.
        recipe: Whose arguments and `code_files` may name data in it.

    Raises:
        InputError: It does not exist, is too large to be code, or has a link that leads out of it.
    """
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=f"code: {folder}", do="give the folder of your modules"
        )
    found = _Found(folder, folder.resolve())
    found.walk(folder, ())
    named = _names_in_code(found.code.values()) | _names_in_arguments(recipe)
    files = dict(found.code)
    for relative, path in found.data.items():
        top_recipe = "/" not in relative and path.suffix.lower() in _RECIPES
        if _is_declared(relative, recipe) or (
            not top_recipe
            and (relative in found.packaged or not named.isdisjoint(relative.split("/")))
        ):
            files[relative] = path
        elif not top_recipe:
            found.left_out[relative] = _UNNAMED
    for relative in [name for name in found.left_out if _is_model(name, recipe)]:
        del found.left_out[relative]  # it goes to the store as the model
    _check_size(files, folder)
    size = sum(path.stat().st_size for path in files.values())
    return ShippedCode(
        folder, dict(sorted(files.items())), size, dict(sorted(found.left_out.items()))
    )


@dataclass
class _Found:
    """What is in a code folder, by relative path.

    Attributes:
        code: Modules and sources.
        data: Files of known kinds of data.
        packaged: Those of them that lie in a package.
        left_out: Why something is not shipped.
    """

    folder: Path
    root: Path
    code: dict[str, Path] = field(default_factory=dict)
    data: dict[str, Path] = field(default_factory=dict)
    packaged: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)

    def walk(self, here: Path, within: tuple[Path, ...], packaged: bool = False) -> None:
        """Look at a folder and those in it.

        Args:
            here: The folder.
            within: The folders that it is in, without links.
            packaged: Whether one of them is a package.
        """
        packaged = packaged or (here / "__init__.py").is_file()
        with os.scandir(here) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
        for entry in entries:
            path = Path(entry.path)
            relative = path.relative_to(self.folder).as_posix()
            if entry.is_dir():
                why = _folder_stays(path)
                if why is None and (why := self._link(path, relative)) is None:
                    real = path.resolve()
                    if real in within or real == self.root:
                        why = "a link to a folder that it is in"
                    else:
                        self.walk(path, (*within, real), packaged)
                if why:
                    self.left_out[f"{relative}/"] = why
                continue
            why = _file_stays(path)
            if why is None:
                why = self._link(path, relative)
            if why:
                self.left_out[relative] = why
            if why is not None:
                continue
            real = path.resolve() if path.is_symlink() else path
            kind = path.suffix.lower()
            (self.data if kind in _DATA else self.code)[relative] = real
            if packaged and kind in _DATA:
                self.packaged.add(relative)

    def _link(self, path: Path, relative: str) -> str | None:
        """Why a link is not followed; None: it is, or is none.

        Raises:
            InputError: It leads out of the folder, to something that would be shipped.
        """
        if not path.is_symlink():
            return None
        real = path.resolve()
        if not real.exists():
            return "a link to nothing"
        if real.is_relative_to(self.root):
            parts = real.relative_to(self.root).parts
            stays = any(p.startswith(".") or looks_secret(p) for p in parts)
            return "a link to what is not shipped" if stays else None
        if real.is_dir() and not any(real.glob("*.py")) and not any(real.glob("*/__init__.py")):
            return "a link to data elsewhere"
        raise InputError(
            f"'{relative}' is a link that leads out of the folder; what it leads to would not be "
            "on the workers",
            where=f"code: {self.folder}",
            do="put the file or folder itself there, or remove the link",
        )


def _check_size(files: dict[str, Path], folder: Path) -> None:
    """Refuse a folder that is too large to be code, and name its largest files."""
    sizes = {relative: path.stat().st_size for relative, path in files.items()}
    if sum(sizes.values()) <= _LARGEST:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    shown = ", ".join(f"{name} ({bytes_in_words(sizes[name])})" for name in largest)
    raise InputError(
        f"more than {_LARGEST // 2**20} MB would be shipped to every worker; the largest: {shown}",
        where=f"code: {folder}",
        do="point `code` at a folder with only your modules, and read data from elsewhere",
    )


def _is_declared(relative: str, recipe: Recipe | None) -> bool:
    declared = () if recipe is None else recipe.code_files
    return any(fnmatch.fnmatchcase(relative, pattern) for pattern in declared)


def _is_model(relative: str, recipe: Recipe | None) -> bool:
    """Whether a file is the recipe's model, or has its weights."""
    if recipe is None:
        return False
    named = [name for name in (recipe.model.source, recipe.model.weights) if name is not None]
    return any(f"/{os.path.normpath(name)}".endswith(f"/{relative}") for name in named)


def _names_in_code(paths: Iterable[Path]) -> set[str]:
    """Names of files and folders in the texts of modules, comments left out."""
    names: set[str] = set()
    for path in paths:
        if path.suffix.lower() != ".py":
            continue
        source = path.read_bytes()
        try:
            tree = syntax_tree(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            texts: Iterable[str] = [source.decode("utf-8", "replace")]
        else:
            texts = _texts(tree)
        names.update(name for text in texts for name in _names_in(text))
    return names


def _texts(tree: ast.Module) -> Iterator[str]:
    """The string constants of a module, without docstrings."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def _names_in(text: str) -> Iterator[str]:
    """What may be a file's or a folder's name in a text: its words, and the parts of a path."""
    yield from _WORD.findall(text)
    yield from re.split(r"[/\\]", text)


def _names_in_arguments(recipe: Recipe | None) -> set[str]:
    if recipe is None:
        return set()
    return {
        name
        for text in _argument_texts(recipe.model_dump(mode="json", exclude_unset=True), False)
        for name in _names_in(text)
    }


def _argument_texts(value: Any, inside: bool) -> Iterator[str]:
    """All texts below a field called `args`."""
    if isinstance(value, str) and inside:
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _argument_texts(item, inside or key == "args")
    elif isinstance(value, list):
        for item in value:
            yield from _argument_texts(item, inside)


_WORD = re.compile(r"[^/\\\s:'\"*?]+")
_UNNAMED = "data that neither the code nor the recipe names (see `code_files`)"


def _folder_stays(path: Path) -> str | None:
    """Why a folder is not shipped; empty if that goes without saying, None if it is shipped."""
    if path.name.startswith(".") or path.name in _CACHES or path.name.endswith(".egg-info"):
        return ""
    if path.name == "site-packages" or any((path / name).exists() for name in _ENVIRONMENTS):
        return "a Python environment"
    return "named like secrets" if looks_secret(path.name) else None


def _file_stays(path: Path) -> str | None:
    """Why a file is not shipped; empty if that goes without saying, None if it is shipped."""
    kind = path.suffix.lower()
    if looks_secret(path.name):
        return "named like a key or a password"
    if path.name.startswith(".") or path.name in _CACHES or kind in (".pyc", ".md"):
        return ""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "not a regular file"
    if kind not in _MODULES | _SOURCES | _DATA:
        return "neither a Python module nor data of a known kind"
    return None
