"""Hone: train on Ray, compress, compile, measure, and promote the fastest good-enough model.

The public names of the package are imported on first use: `import prefect_hone` alone loads none of
torch, ray, mlflow and prefect.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import runtimes as _runtimes  # noqa: F401 (turns telemetry off before a library is imported)

if TYPE_CHECKING:
    from ._version import __version__ as __version__
    from .flows.accelerate import accelerate as accelerate
    from .flows.engine.blocks import HoneServers as HoneServers
    from .ray_workers.data.split_format import SplitFormat as SplitFormat
    from .ray_workers.workspace import Result as Result
    from .ray_workers.workspace import Workspace as Workspace
    from .recipe.data import Data as Data
    from .recipe.errors import HoneError as HoneError
    from .recipe.errors import InputError as InputError
    from .recipe.errors import RecipeError as RecipeError
    from .recipe.errors import StepFailed as StepFailed
    from .recipe.load import load_recipe as load_recipe
    from .recipe.schema import Recipe as Recipe
    from .tasks.compile import Unavailable as Unavailable
    from .tasks.outcome import Outcome as Outcome


_HOME = {
    "Data": ".recipe.data",
    "HoneError": ".recipe.errors",
    "HoneServers": ".flows.engine.blocks",
    "InputError": ".recipe.errors",
    "Outcome": ".tasks.outcome",
    "Recipe": ".recipe.schema",
    "RecipeError": ".recipe.errors",
    "Result": ".ray_workers.workspace",
    "SplitFormat": ".ray_workers.data.split_format",
    "StepFailed": ".recipe.errors",
    "Unavailable": ".tasks.compile",
    "Workspace": ".ray_workers.workspace",
    "__version__": "._version",
    "accelerate": ".flows.accelerate",
    "load_recipe": ".recipe.load",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
