"""The report of a run: what it gathers, what it records, and that a kept picture is not drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import (
    FP32,
    INT8,
    MEASURED,
    NotingTracker,
    benchmarked,
    recipe,
    results,
    run,
    session,
    usual,
)
from prefect_hone.flows.engine import reporting
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.reporting import (
    CARD,
    CONTENTS,
    PAGE,
    as_data_url,
    record_page,
    record_provenance,
    record_report,
    report_of,
)
from prefect_hone.flows.engine.results import Results
from prefect_hone.flows.engine.run import Run
from prefect_hone.flows.engine.runner import Runner
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.report.contents import Report
from prefect_hone.tasks.tracking.statements import PROVENANCE


@pytest.fixture
def made(tmp_path: Path) -> tuple[Run, Results, Outcome]:
    """A run with a store of its own, its results and its outcome."""
    found = results(recipe(), usual(fp32=0.0, int8=0.01), benchmarked(MEASURED))
    started = run(tmp_path)
    started.session = session(tmp_path)
    started.runner = Runner(started.session, started.tracker, None)
    return started, found, conclude(recipe(), "r1", found)


def texts(started: Run, ref: str) -> dict[str, str]:
    assert isinstance(started.tracker, NotingTracker)
    return started.tracker.told_texts(ref)


def test_it_is_recorded_where_people_look(made: tuple[Run, Results, Outcome]) -> None:
    started, found, outcome = made
    report = report_of(started, found, outcome)
    assert report.data.sizes == {"train": 10, "test": 4}
    assert {step.label for step in report.steps} >= {"check", "train", "benchmark"}
    drawn = record_page(started, report)
    written = texts(started, "parent")
    assert {PAGE, CONTENTS, CARD} <= set(written)
    assert Report.model_validate_json(written[CONTENTS]) == report
    assert drawn.pareto is not None
    assert as_data_url(started.session.store, drawn.pareto).startswith(
        "data:image/png;base64,iVBOR"
    )


def test_pictures_are_drawn_once(
    made: tuple[Run, Results, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, found, outcome = made
    report = report_of(started, found, outcome)
    first = record_page(started, report)

    def never(_: Report) -> None:
        raise AssertionError("they are kept")

    monkeypatch.setattr(reporting, "draw_pareto", never)
    later = report.model_copy(
        update={"made": "later", "outcome": outcome.model_copy(update={"run_id": "r2"})}
    )
    assert record_page(started, later) == first


def test_a_kept_picture_that_is_gone_is_drawn_again(made: tuple[Run, Results, Outcome]) -> None:
    started, found, outcome = made
    report = report_of(started, found, outcome)
    first = record_page(started, report)
    assert first.pareto is not None
    (Path(started.session.store.fetch(first.pareto)) / "pareto.png").unlink()
    again = record_page(started, report)
    assert again.pareto is not None
    assert started.session.store.fetch(again.pareto)


def test_each_candidate_has_a_statement_of_its_provenance(
    made: tuple[Run, Results, Outcome],
) -> None:
    started, found, outcome = made
    report = report_of(started, found, outcome)
    slices = {**report.environment, "timed slices": "60; 2 stayed disturbed"}
    record_provenance(started, report.model_copy(update={"environment": slices}), found)
    for name in (FP32, INT8):
        said = json.loads(texts(started, name)[PROVENANCE])
        assert said["_type"] == "https://in-toto.io/Statement/v1"
        candidate = next(c for c in outcome.candidates if c.name == name)
        assert candidate.artifact is not None
        (subject,) = said["subject"]
        assert subject == {"name": name, "digest": {"sha256": candidate.artifact.sha256}}
        definition = said["predicate"]["buildDefinition"]
        assert definition["externalParameters"]["recipe_digest"] == outcome.recipe_digest
        needed = {m["name"] for m in definition["resolvedDependencies"]}
        assert needed >= {"samples", "torch"}
        assert "timed slices" not in needed, "it is no library"
        products = {b["name"] for b in said["predicate"]["runDetails"]["byproducts"]}
        assert {"train/weights", f"compile {name}/model"} <= products
        other = INT8 if name == FP32 else FP32
        assert f"compile {other}/model" not in products


def test_a_report_that_cannot_be_made_is_told_and_ends_no_run(
    made: tuple[Run, Results, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, found, outcome = made
    assert record_report(started, found, outcome) is not None

    def broken(_: Report) -> None:
        raise ImportError("libfreetype.so.6: cannot open shared object file")

    monkeypatch.setattr(reporting, "_drawn", lambda report, _: broken(report))
    assert record_report(started, found, outcome) is None
    assert any("the report could not be made: libfreetype" in n for n in started.runner.notes)
