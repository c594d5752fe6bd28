"""The flow: from a model that is trained to the champion, without training it again.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from ..ray_workers.cluster import cores
from .engine.optimization import open_optimization
from .engine.pipeline import run_pipeline, told_by_state
from .engine.request import PromotionChoice, RecipeText


@flow(
    name="optimize",
    description="Take a trained model from MLflow; compress, compile, prove and promote it by a "
    "recipe's variants, targets and gates.",
    task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=2 * cores() + 1)),
    validate_parameters=True,
)
def optimize(
    model: str,
    recipe: RecipeText,
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into its form)
    promotion: PromotionChoice = "as in the recipe",
    redo: list[str] = [],  # noqa: B006
) -> State[Any]:
    """Optimize a trained model.

    Args:
        model: The trained model: models:/NAME/VERSION, models:/NAME@ALIAS, or runs:/RUN of a run of
            Hone.
        recipe: The name of a bundled recipe (digits), a recipe file in a folder that the worker
            allows, or a whole recipe as JSON or YAML. Its model is replaced, its training skipped.
        overrides: Fields of the recipe to change, each as FIELD=VALUE (benchmark.threads=2).
        promotion: What to do with the winner. off registers nothing; dry-run registers it and moves
            no alias; approve asks a person first; auto moves the alias.
        redo: Steps to compute again, with all that follows from them (benchmark,
            compile:int8@openvino-cpu).

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: There is no such model, or what the recipe asks for can't be done.
        HoneError: A step that every candidate needs failed.
    """
    return told_by_state(
        lambda: run_pipeline(*open_optimization(model, recipe, overrides, promotion, redo))
    )
