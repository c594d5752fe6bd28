"""Compile: for which target, from what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from ...recipe.model import ModelFactory
from ...recipe.passes import Pass
from ...recipe.targets import AnyTarget
from .base import Spec


class CompileSpec(Spec):
    """Attributes:
    target: The target and its settings.
    batch_sizes: Sizes to compile a program for each; None: one for any size.
    processor: What the artifact depends on of the processor; None if it doesn't.
    model: For a target that compiles the torch module: the model.
    passes: For such a target: the variant's passes on the graph, which it applies itself.
    """

    target: Annotated[AnyTarget, Field(discriminator="kind")]
    batch_sizes: tuple[int, ...] | None = None
    processor: dict[str, JsonValue] | None = None
    model: ModelFactory | None = None
    passes: tuple[Pass, ...] = ()
