"""A module of a user's own, written and imported as one of a recipe's code folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from prefect_hone.recipe.factories import use_code


def user_module(folder: Path, name: str, text: str) -> ModuleType:
    """Write a module to a folder and import it from there."""
    (folder / f"{name}.py").write_text(text)
    use_code(folder)
    return importlib.import_module(name)
