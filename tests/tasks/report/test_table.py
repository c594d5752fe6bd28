"""The table of candidates, on a terminal and as Markdown: each number with its interval."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.measures import MEASURES
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.decide import GateResult
from prefect_hone.tasks.outcome import (
    ArtifactSaid,
    Candidate,
    CandidateStatus,
    Champion,
    Outcome,
)
from prefect_hone.tasks.report.table import (
    caption,
    cell,
    headers,
    headline,
    markdown,
    markdown_table,
    ordered,
    rows,
    verdict,
)


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(Path(__file__).parent.parent.parent / "project/recipe.yaml", [])


def gate(passed: bool, value: float | None = 0.03) -> GateResult:
    return GateResult(
        metric="quality.drop", bound="at_most", limit=0.02, value=value, margin=None, passed=passed
    )


def candidate(name: str, p50: float | None, **fields: object) -> Candidate:
    metrics = {} if p50 is None else {
        "quality/accuracy": 0.95, "quality/accuracy_low": 0.9, "quality/accuracy_high": 1.0,
        "quality/drop": 0.0125, "quality/drop_low": 0.0, "quality/drop_high": 0.02,
        "latency/p50_ms": p50, "latency/p50_ms_low": p50 - 0.1, "latency/p50_ms_high": p50 + 0.1,
        "latency/p99_ms": p50 * 2, "latency/ratio": 3.0, "latency/ratio_low": 2.5,
        "latency/ratio_high": 3.5, "parity/sqnr_db": 41.6, "size/bytes": 1.0,
    }  # fmt: skip
    given = {
        "name": name, "variant": name, "target": "onnxruntime-cpu", "status": CandidateStatus.PASSED,
        "artifact": ArtifactSaid(uri="/a", sha256="ab", bytes=2_000_000), "metrics": metrics,
        "gates": (gate(True, 0.0125),),
    }  # fmt: skip
    return Candidate.model_validate({**given, **fields})


def outcome(*candidates: Candidate, **fields: object) -> Outcome:
    given = {
        "recipe": "wine", "recipe_digest": "0" * 64, "run_id": "r", "why": "it has the lowest p50",
        "baseline": {"quality/accuracy": 0.96, "latency/p50_ms": 4.0, "latency/ratio": 1.0,
                     "latency/ratio_low": 1.0, "latency/ratio_high": 1.0, "size/bytes": 4e6},
        "candidates": candidates, "seconds": {"check": 1.25}, "cached": (), "notes": ("a note",),
    }  # fmt: skip
    return Outcome.model_validate({**given, **fields})


def cells(recipe: Recipe, made: Outcome, name: str) -> dict[str, str]:
    row = next(row for row in rows(made, recipe) if row[0] == name)
    return dict(zip(headers(made), row, strict=True))


def test_a_candidates_row(recipe: Recipe) -> None:
    assert cells(recipe, outcome(candidate("int8", 1.0)), "int8") == {
        "candidate": "int8", "quality": "0.9500 [0.9000, 1.0000]", "drop": "+0.0125",
        "p50 (ms)": "1.000 [0.900, 1.100]", "p99 (ms)": "2.000", "× eager": "3.00 [2.50, 3.50]",
        "× best uncompressed": "", "size": "2.00 MB", "SQNR": "42 dB", "gates": "1/1 passed",
    }  # fmt: skip


def test_the_baselines_row_is_first(recipe: Recipe) -> None:
    made = outcome(candidate("int8", 1.0))
    assert rows(made, recipe)[0][0] == "PyTorch eager (baseline)"
    row = cells(recipe, made, "PyTorch eager (baseline)")
    assert (row["quality"], row["× eager"], row["size"]) == ("0.9600", "1.00", "4.00 MB")
    assert (row["drop"], row["SQNR"], row["gates"]) == ("", "", "")


def test_the_fastest_is_first_and_what_was_not_measured_last(recipe: Recipe) -> None:
    slow, quick = candidate("slow", 2.0), candidate("quick", 1.0)
    broken = candidate("a-broken", None, status="failed", error="no", gates=())
    made = outcome(broken, slow, quick)
    assert [c.name for c in ordered(made)] == ["quick", "slow", "a-broken"]
    row = cells(recipe, made, "a-broken")
    assert (row["p50 (ms)"], row["size"], row["gates"]) == ("", "2.00 MB", "failed")


def test_a_verdict_says_which_gate_failed_and_by_what() -> None:
    gated = candidate("x", 1.0, status="gated", gates=(gate(True), gate(False)))
    assert verdict(gated) == "failed: quality.drop 0.03 > 0.02"
    unmeasured = candidate("x", 1.0, status="gated", gates=(gate(False, None),))
    assert verdict(unmeasured) == "failed: quality.drop ? > 0.02"
    assert verdict(candidate("x", None, status="skipped", gates=())) == "skipped"


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    made = outcome()
    assert headers(made, 200) == headers(made)
    assert headers(made, 100) == ("candidate", "p50 (ms)", "× eager", "gates")
    assert set(headers(made, 130)) == {*headers(made, 100), "quality", "drop", "size"}


def test_markdown_has_everything(recipe: Recipe) -> None:
    broken = candidate("broken", None, status="failed", error="no such operator", gates=())
    made = outcome(candidate("a|b", 1.0), broken)
    text = markdown(made, recipe)
    assert text.startswith("# wine\n\nNo champion: it has the lowest p50. ")
    for line in (
        "- **broken**: no such operator",
        "- a note",
        "| check | 1.2 |",
        caption(recipe, made),
    ):
        assert line in text, line
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert "a/b" in table[3], "a bar in a name does not make a column"
    assert {line.count("|") for line in table[:4]} == {len(headers(made)) + 1}


def test_the_headline_says_where_the_champion_is(recipe: Recipe) -> None:
    champion = Champion(
        candidate="int8", model="wine", version="3", alias="champion", new=True, previous="2"
    )
    made = outcome(candidate("int8", 1.0), winner="int8", champion=champion)
    assert headline(made) == (
        "Champion: int8 (models:/wine@champion, version 3): it has the lowest p50."
    )
    kept = made.model_copy(update={"champion": champion.model_copy(update={"new": False})})
    assert "version 3, as before" in headline(kept)
    assert headline(made) in markdown_table(made, recipe)
    assert "registry was not touched" in headline(outcome())


def test_a_rate_that_could_not_be_found_says_why(recipe: Recipe) -> None:
    rate = {"server.queries_per_s": "too slow"}
    slow = candidate("slow", 9.0, unmeasured=rate)
    quick = candidate("quick", 1.0)
    quick.metrics["server/queries_per_s"] = 120.0
    for found in (outcome(quick, slow), outcome(slow)):
        place = headers(found).index("server/s")
        assert rows(found, recipe)[-1][place] == "too slow"


@pytest.mark.parametrize(
    ("quality", "drop", "shown", "lost"),
    [
        (0.9944, 0.0, "0.9944 [0.9844, 1.0044]", "+0.0000"),
        (32.59901, -0.00012, "32.5990 [32.5890, 32.6090]", "-0.0001"),
        (0.00051234, 0.0000212, "0.0005123 [-0.0094877, 0.0105123]", "+0.0000212"),
        (0.0, 0.0, "0.0000 [-0.0100, 0.0100]", "+0.0000"),
    ],
)
def test_a_small_quality_has_four_significant_digits(
    quality: float, drop: float, shown: str, lost: str
) -> None:
    metrics = {
        "quality/mse": quality, "quality/mse_low": quality - 0.01,
        "quality/mse_high": quality + 0.01, "quality/drop": drop,
    }  # fmt: skip
    assert cell(MEASURES["quality.value"], metrics, "mse") == shown
    assert cell(MEASURES["quality.drop"], metrics, "mse") == lost
