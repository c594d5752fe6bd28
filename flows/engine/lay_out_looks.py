"""The layout of what is looked at besides quality and speed: robustness and explanations."""

from __future__ import annotations

from typing import Any

from ...recipe.proofs import Proofs
from ...recipe.schema import Recipe
from ...recipe.targets import AnyTarget
from ...tasks.specs.explanation import ExplainedSpec, ExplanationSpec
from ...tasks.specs.robustness import CorruptedSpec, RobustnessSpec
from ...tasks.steps import (
    CORRUPTED,
    EXPLAINED,
    EXPLANATION,
    ROBUSTNESS,
    loader,
    loader_module,
    metric_module,
    requirement_files,
)
from .layout import H, Laid, Shared, Submit, hand, judged_by
from .surroundings import Surroundings


def lay_out_corrupted(recipe: Recipe, submit: Submit[H], weights: tuple[H, str]) -> Laid[H] | None:
    """The trained model under corrupted inputs; None if that is turned off."""
    if not recipe.proofs.robustness:
        return None
    judged = judged_by(recipe)
    call = CORRUPTED.call(
        "corrupted",
        CorruptedSpec(**dict(judged), proofs=recipe.proofs.for_robustness()),
        loads=(metric_module(judged.metric),),
        timeout=recipe.timeouts.step,
    )
    return hand(submit, call, {"weights": weights})


def lay_out_explained(recipe: Recipe, submit: Submit[H], weights: tuple[H, str]) -> Laid[H] | None:
    """What the trained model's answers depend on; None if that is turned off."""
    if not recipe.proofs.explanation:
        return None
    call = EXPLAINED.call(
        "explained",
        ExplainedSpec(**dict(judged_by(recipe)), proofs=_explanation(recipe)),
        timeout=recipe.timeouts.step,
    )
    return hand(submit, call, {"weights": weights})


def lay_out_looks(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    shared: Shared[H],
    target: AnyTarget,
    made: tuple[Laid[H], Laid[H]],
) -> tuple[H, ...]:
    """What is looked at of a candidate once it is validated.

    Args:
        recipe: The recipe.
        here: The machine.
        submit: How steps are run.
        shared: The steps that all candidates share.
        target: The candidate's target.
        made: Its compile step and its validation.
    """
    compiled, validated = made
    name = compiled.call.candidate
    judged = judged_by(recipe)
    runtime = through_runtime(target, here)
    reserved: dict[str, Any] = {
        "candidate": name,
        "gpus": 1 if target.gpu else 0,
        "timeout": recipe.timeouts.step,
        "files": requirement_files(target.kind),
    }
    looks = []
    if shared.corrupted is not None:
        call = ROBUSTNESS.call(
            f"robustness {name}",
            RobustnessSpec(
                **dict(judged),
                **runtime,
                proofs=recipe.proofs.for_robustness(),
                higher_is_better=recipe.quality.rises,
            ),
            loads=(metric_module(judged.metric), loader_module(target.kind)),
            **reserved,
        )
        inputs = {
            "model": compiled.output("model"),
            "reference": shared.reference.output("statistics"),
            "validated": validated.output("statistics"),
            "corrupted": shared.corrupted.output("statistics"),
        }
        looks.append(hand(submit, call, inputs).handle)
    if shared.explained is not None:
        call = EXPLANATION.call(
            f"explanation {name}",
            ExplanationSpec(**dict(judged), **runtime, proofs=_explanation(recipe)),
            loads=(loader_module(target.kind),),
            **reserved,
        )
        inputs = {
            "model": compiled.output("model"),
            "attributions": shared.explained.output("attributions"),
        }
        looks.append(hand(submit, call, inputs, [validated.handle]).handle)
    return tuple(looks)


def through_runtime(target: AnyTarget, here: Surroundings) -> dict[str, Any]:
    """The fields of `ThroughRuntime` for a candidate of a target."""
    return {
        "loader": loader(target.kind),
        "environment": target.environment,
        "options": dict(target.loader_options),
        "processor": here.processor.identity(),
    }


def shows_samples(recipe: Recipe) -> bool:
    """Whether the report may show samples: not if no data are to leave with the model."""
    return recipe.proofs.show_samples and recipe.registry.proof == "inputs"


def _explanation(recipe: Recipe) -> Proofs:
    found = recipe.proofs.for_explanation()
    return found.model_copy(update={"show_samples": shows_samples(recipe)})
