"""The flow: measure the champion again, on today's data and machine.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from .engine.measuring_again import measure_again
from .engine.pipeline import told_by_state
from .engine.request import RecipeText, open_request


@flow(
    name="benchmark",
    description="Measure the champion again: has the data or the machine changed since it was "
    "promoted? Nothing is trained, and nothing in the registry moves.",
    task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=4)),
    validate_parameters=True,
)
def benchmark(
    recipe: RecipeText,
    version: str = "champion",
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into its form)
) -> State[Any]:
    """Measure a registered version again.

    The flow run completes as `ChampionChanged` if a measure left the 95 % interval that it had, and
    fails as `ChampionFails` if the version fails a gate now.

    Args:
        recipe: The recipe that the version was made by. The name of a bundled recipe (digits), a
            recipe file in a folder that the worker allows, or a whole recipe as JSON or YAML.
        version: An alias (champion, previous) or the number of a version of the recipe's model.
        overrides: Fields of the recipe to change, each as FIELD=VALUE (benchmark.seconds=5).

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: There is no such version, or it was made by another recipe.
        HoneError: A step failed.
    """

    def work() -> State[Any]:
        loaded, session = open_request(recipe, overrides)
        return measure_again(loaded, session, version.strip())

    return told_by_state(work)
