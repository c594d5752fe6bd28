"""Publish the outcome as Prefect artifacts: a table and a text in the flow run's page."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from ...recipe.schema import Recipe
from ...tasks.outcome import Outcome
from ...tasks.report.table import HEADERS, headline, markdown, rows


def publish(recipe: Recipe, outcome: Outcome) -> None:
    """Create the artifacts `RECIPE-candidates` and `RECIPE-outcome` in the current flow run."""
    name = recipe.name.replace("_", "-")
    create_table_artifact(
        table=[dict(zip(HEADERS, row, strict=True)) for row in rows(outcome, recipe)],
        key=f"{name}-candidates",
        description=headline(outcome),
    )
    create_markdown_artifact(
        markdown=markdown(outcome, recipe), key=f"{name}-outcome", description=headline(outcome)
    )
