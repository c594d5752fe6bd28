"""A recipe without the credentials in its URLs and arguments.

What a run keeps (Prefect's parameters, MLflow's recipe, cache keys, records) has a mark in their
place. The session holds them, and they go only to what opens a URL and to the workers' factories.
"""

from __future__ import annotations

from ...recipe.errors import InputError
from ...recipe.passes import DistillPass
from ...recipe.schema import Recipe
from ...recipe.showable import parted


def without_credentials(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """The recipe with a mark for each credential, and the texts that had some, by the marked ones.

    Raises:
        InputError: Its credentials were left out already: it is one that a run kept. Or they are a
            student's, whose arguments are a part of what the store keeps.
    """
    try:
        shown, secrets = parted(recipe.model_dump(mode="json"))
    except ValueError as error:
        raise InputError(
            f"the credentials of '{error}' were left out when a run kept this recipe",
            where="recipe",
            do="put them in again, or let the environment have them (AWS_ACCESS_KEY_ID, ~/.netrc)",
        ) from None
    for i, variant in enumerate(recipe.variants):
        for j, step in enumerate(variant.passes):
            if isinstance(step, DistillPass) and parted(step.args)[1]:
                raise InputError(
                    "the arguments of a student are kept with its weights, and can't hold "
                    "credentials",
                    where=f"variants.{i}.passes.{j}.args",
                    do="let the factory read them from the environment",
                )
    return (Recipe.model_validate(shown), secrets) if secrets else (recipe, {})
