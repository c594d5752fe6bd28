"""The flow: from a recipe to the champion.

Prefect sends a flow that it serves by value: its annotations must be objects, not the strings that
`from __future__ import annotations` makes of them.
"""

from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from ..ray_workers.cluster import cores
from .engine.pipeline import run_pipeline, told_by_state
from .engine.request import PromotionChoice, RecipeText, open_request


@flow(
    name="accelerate",
    description="Train, compress, compile, prove, promote: the fastest model that is good enough.",
    task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=2 * cores() + 1)),
    validate_parameters=True,
)
def accelerate(
    recipe: RecipeText,
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into its form)
    promotion: PromotionChoice = "as in the recipe",
    redo: list[str] = [],  # noqa: B006
) -> State[Any]:
    """Run a recipe from training to the model registry.

    The flow run completes if there is a champion, and fails, in a state named
    `NoCandidatePassed`, if every candidate failed a gate; the outcome is the state's data.

    Args:
        recipe: The name of a bundled recipe (digits), a recipe file in a folder that the worker
            allows, or a whole recipe as JSON or YAML.
        overrides: Fields of the recipe to change, each as FIELD=VALUE (train.epochs=3).
        promotion: What to do with the winner. off registers nothing; dry-run registers it and moves
            no alias; approve asks a person first; auto moves the alias.
        redo: Steps to compute again, with all that follows from them (train, benchmark,
            compile:int8@openvino-cpu).

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: What the recipe asks for can't be done.
        HoneError: A step that every candidate needs failed.
    """
    return told_by_state(lambda: run_pipeline(*open_request(recipe, overrides, promotion, redo)))
