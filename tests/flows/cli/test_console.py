"""What is told while a run works: each error once."""

from __future__ import annotations

import io

import pytest
from prefect_hone.flows.cli.console import LiveRows, PlainLines
from prefect_hone.flows.cli.tables import show_outcome
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.outcome import Outcome
from rich.console import Console

RECIPE = {
    "name": "wine", "model": {"factory": "m:f"}, "data": {"factory": "m:d"},
    "train": {"epochs": 1, "batch_size": 8}, "targets": ["onnxruntime-cpu"],
    "registry": {"model": "wine"},
}  # fmt: skip


def candidate(name: str, error: str) -> dict[str, str]:
    return {"name": name, "variant": "v", "target": "t", "status": "failed", "error": error}


@pytest.mark.parametrize("kind", [PlainLines, LiveRows])
def test_each_error_of_a_step_is_printed_once(kind: type) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    observer = kind(console)
    observer.failed("compile a@t", "no such operator")
    observer.failed("export", "it can't be traced")
    outcome = Outcome(
        recipe="wine", recipe_digest="d", run_id="r", why="no candidate could be measured",
        baseline={}, seconds={}, cached=(),
        candidates=(candidate("a@t", "no such operator"), candidate("b@t", "it can't be traced"),
                    candidate("c@t", "it can't be traced"), candidate("d@t", "benchmark: died")),
    )  # fmt: skip
    show_outcome(console, outcome, Recipe.model_validate(RECIPE), observer.failures.told)
    said = text.getvalue()
    assert "export" in said
    for error in ("no such operator", "it can't be traced", "benchmark: died"):
        assert said.count(error) == 1, error
    assert "b@t, c@t: it can't be traced" in said
    assert ".." not in said
