"""The flow: train a recipe's model, and nothing else.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from .engine.pipeline import told_by_state
from .engine.request import RecipeText, open_request
from .engine.training import run_training


@flow(
    name="train",
    description="Check the data, train the model on Ray, and measure its quality. A later run of "
    "`accelerate` with the same recipe does not train again.",
    task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=4)),
    validate_parameters=True,
)
def train(
    recipe: RecipeText,
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into its form)
    redo: list[str] = [],  # noqa: B006
) -> State[Any]:
    """Train a recipe's model.

    Args:
        recipe: The name of a bundled recipe (digits), a recipe file in a folder that the worker
            allows, or a whole recipe as JSON or YAML.
        overrides: Fields of the recipe to change, each as FIELD=VALUE (train.epochs=3).
        redo: Steps to compute again, with all that follows from them (check, train, reference).

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: What the recipe asks for can't be done.
        HoneError: A step failed.
    """
    return told_by_state(lambda: run_training(*open_request(recipe, overrides, redo=redo)))
