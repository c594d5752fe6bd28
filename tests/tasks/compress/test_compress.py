"""Every kind of pass that a recipe can name has a file that fulfils the protocol."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest
from prefect_hone.recipe.passes import Pass
from prefect_hone.tasks.compress import CompressionPass, compression_pass
from prefect_hone.tasks.steps import pass_function


def kinds() -> set[str]:
    """Of every class in the union, whatever it is nested in."""
    found: set[str] = set()

    def walk(annotation: object) -> None:
        if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
            found.update(get_args(annotation.model_fields["kind"].annotation))
        for inner in get_args(annotation):
            walk(inner)

    walk(Pass)
    return found


def test_there_are_as_many_as_the_recipe_names() -> None:
    assert kinds() == {"prune", "distill", "low-rank", "qat", "quantize", "fold", "import"}


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_pass_fulfils_the_protocol_and_is_what_its_step_calls(kind: str) -> None:
    found = compression_pass(kind)
    wanted = inspect.signature(CompressionPass.apply)
    given = inspect.signature(found.apply)
    assert list(given.parameters) == list(wanted.parameters)[1:]
    assert given.return_annotation == wanted.return_annotation
    assert f"{found.__name__}:apply" == pass_function(kind)
