"""What a user asks for: the schema, loading with errors that name the field, the examples.

Imports nothing heavy (no torch, prefect, ray or mlflow) and nothing of Hone's other rooms.
"""

from __future__ import annotations

from .data import Data
from .errors import HoneError, InputError, RecipeError
from .load import bundled_recipes, load_recipe
from .schema import Recipe

__all__ = [
    "Data",
    "HoneError",
    "InputError",
    "Recipe",
    "RecipeError",
    "bundled_recipes",
    "load_recipe",
]
