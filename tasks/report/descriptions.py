"""What MLflow's pages of a run, a registered model and a version begin with: Markdown for people.

MLflow shows two lines of a run's description before one asks for more, so these say who won, how
good it is and how fast.
"""

from __future__ import annotations

from ...recipe.measures import MEASURES
from ...recipe.schema import Recipe
from ..decide import primary_batch
from ..outcome import Candidate, Outcome
from .table import cell, markdown_table


def run_description(outcome: Outcome, recipe: Recipe) -> str:
    """Of the parent run: the champion, its quality and its speed, then the table."""
    best = outcome.winning
    if outcome.champion is None or best is None:
        return markdown_table(outcome, recipe)
    first = f"**Champion: {best.name}**, {_in_short(best, recipe)}."
    return f"{first}\n\n{markdown_table(outcome, recipe)}"


def model_description(recipe: Recipe) -> str:
    """Of the registered model."""
    name, alias = recipe.registry.model, recipe.registry.alias
    return (
        f"The fastest model that is good enough, of the recipe `{recipe.name}`: the alias "
        f"`{alias}` is moved to a version by Hone once it was measured and passed every gate, and "
        "the version before keeps the alias `previous`.\n\n"
        f"{_loading(f'models:/{name}@{alias}')}"
    )


def version_description(outcome: Outcome, recipe: Recipe, winner: Candidate, model_id: str) -> str:
    """Of a version: what it is, where it comes from, what was measured, and how to load it."""
    registry = recipe.registry
    metric = recipe.quality.name
    baseline = cell(MEASURES["quality.value"], outcome.baseline, metric)
    measured = {
        metric: f"{_of(winner, recipe, 'quality.value')} (trained model: {baseline})",
        "drop": _of(winner, recipe, "quality.drop"),
        f"latency at batch size {primary_batch(recipe)}": (
            f"{_of(winner, recipe, 'latency.p50_ms')} ms with {recipe.benchmark.threads} threads"
        ).replace(" 1 threads", " 1 thread"),
        "times faster than PyTorch eager": _of(winner, recipe, "latency.ratio"),
        "size": _of(winner, recipe, "size.bytes"),
    }
    lines = [
        f"Variant `{winner.variant}` compiled for `{winner.target}`, by the recipe "
        f"`{outcome.recipe}` ({outcome.recipe_digest[:12]}), in the run `{outcome.run_id}`.",
        "",
        *(f"- {what}: {value}" for what, value in measured.items() if value),
        "",
        f"It was chosen because {outcome.why}. Brackets are 95 % intervals.",
        "",
        f"The champion of the day is `models:/{registry.model}@{registry.alias}`; this version is",
        "",
        _loading(f"models:/{model_id}"),
    ]
    return "\n".join(lines)


def _in_short(best: Candidate, recipe: Recipe) -> str:
    """`accuracy 0.97 [0.95, 0.99], 3.1 [3.0, 3.2] times faster than PyTorch eager`."""
    return (
        f"{recipe.quality.name} {_of(best, recipe, 'quality.value')} (drop "
        f"{_of(best, recipe, 'quality.drop')}), {_of(best, recipe, 'latency.ratio')} times faster "
        f"than PyTorch eager: {_of(best, recipe, 'latency.p50_ms')} ms, "
        f"{_of(best, recipe, 'size.bytes')}"
    )


def _of(candidate: Candidate, recipe: Recipe, measure: str) -> str:
    return cell(MEASURES[measure], candidate.metrics, recipe.quality.name)


def _loading(uri: str) -> str:
    return f'```python\nmlflow.pyfunc.load_model("{uri}")\n```'
