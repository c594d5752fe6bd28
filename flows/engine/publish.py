"""Publish the outcome as Prefect artifacts: a table, a text, a picture and a link in the flow run's
page.
"""

from __future__ import annotations

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from ...ray_workers.store.artifacts import Artifact
from ...recipe.showable import showable
from ...tasks.outcome import Outcome
from ...tasks.report.table import headers, headline, markdown, rows
from .reporting import PAGE, as_data_url
from .run import Run


def publish(run: Run, outcome: Outcome, pareto: Artifact | None) -> None:
    """Create artifacts in the current flow run: `RECIPE-candidates`, `RECIPE-outcome`,
    `RECIPE-pareto`, and `RECIPE-report`, which links to the report in MLflow.

    Args:
        run: The run.
        outcome: What came of it.
        pareto: The Pareto picture; None if nothing was measured.
    """
    recipe = run.recipe
    name = recipe.name.replace("_", "-")
    said = headline(outcome)
    create_table_artifact(
        table=[dict(zip(headers(outcome), row, strict=True)) for row in rows(outcome, recipe)],
        key=f"{name}-candidates",
        description=said,
    )
    create_markdown_artifact(
        markdown=markdown(outcome, recipe), key=f"{name}-outcome", description=said
    )
    if pareto is not None:
        create_image_artifact(
            image_url=as_data_url(run.session.store, pareto),
            key=f"{name}-pareto",
            description="Quality against latency of every candidate",
        )
    link = report_link(run)
    if link is not None:
        create_link_artifact(
            link=link, link_text="Report in MLflow", key=f"{name}-report", description=said
        )


def report_link(run: Run) -> str | None:
    """Where MLflow's pages show the report; None for a store that no server shows."""
    tracking = showable(run.session.settings.tracking).rstrip("/")
    experiment = run.tracker.experiment_id
    if not tracking.startswith("http") or experiment is None:
        return None
    return f"{tracking}/#/experiments/{experiment}/runs/{run.run_id}/artifacts/{PAGE}"
