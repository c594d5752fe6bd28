"""How modules of a code folder are found: before installed packages, but never in place of Python's
own modules, or of those that Hone runs on.

A `secrets.py` beside the recipe would else be what numpy imports as `secrets`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: Of the standard library, but no library imports them; `test.py` is a name that people use.
_FREE = frozenset({"antigravity", "idlelib", "test", "this", "turtle", "turtledemo"})
#: Packages that Hone and its libraries import in processes that have a code folder.
_LIBRARIES = frozenset({
    "aiohttp", "alembic", "anyio", "attr", "attrs", "certifi", "charset_normalizer", "click",
    "cloudpickle", "dateutil", "fastapi", "filelock", "flatbuffers", "fsspec", "google", "grimp",
    "grpc", "httpx", "idna", "jinja2", "jsonschema", "markupsafe", "matplotlib", "ml_dtypes",
    "mlflow", "mpmath", "msgpack", "networkx", "nncf", "numpy", "onnx", "onnx_ir", "onnxruntime",
    "onnxscript", "openvino", "packaging", "pandas", "pluggy", "prefect", "prefect_hone",
    "psutil", "pyarrow", "pydantic", "pydantic_core", "pydantic_settings", "pytorch_optimizer",
    "ray", "requests", "rich", "safetensors", "scipy", "six", "sklearn", "sqlalchemy", "starlette",
    "sympy", "torch", "torch_pruning", "torchao", "torchgen", "tqdm", "typer", "typing_extensions",
    "typing_inspection", "urllib3", "uvicorn", "yaml",
})  # fmt: skip
RESERVED = (frozenset(sys.stdlib_module_names) | _LIBRARIES) - _FREE


class CodeFinder(MetaPathFinder):
    """Finds the modules of a code folder before any others, except those with reserved names.

    Args:
        folder: The code folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name in RESERVED:  # a submodule is where its package is
            return None
        found = PathFinder.find_spec(name, [self._folder], target)
        # A folder without __init__.py is no reason to hide an installed package of that name.
        return found if found is not None and found.loader is not None else None


def put_on_path(folder: str) -> None:
    """Let modules be imported from a folder."""
    sys.meta_path.insert(0, CodeFinder(folder))
    sys.path.append(folder)  # for packages without __init__.py, and processes that are spawned


def take_off_path(folder: str) -> None:
    """Undo `put_on_path`."""
    sys.path.remove(folder)
    for finder in list(sys.meta_path):
        if isinstance(finder, CodeFinder) and finder._folder == folder:
            sys.meta_path.remove(finder)


def modules_in(folder: Path) -> Iterator[Path]:
    """The modules and packages at the top of a folder."""
    yield from folder.glob("*.py")
    yield from (path.parent for path in folder.glob("*/__init__.py"))


def reserved_in(folder: Path) -> list[str]:
    """Names of files and folders that can't be imported, because their names are reserved."""
    return sorted(path.name for path in modules_in(folder) if path.stem in RESERVED)
