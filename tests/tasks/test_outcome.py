"""The outcome as programs read it: plain strings and numbers, and back again."""

from __future__ import annotations

import json

import pytest
from prefect_hone.tasks.outcome import Candidate, CandidateStatus, Outcome


def candidate(name: str, status: CandidateStatus) -> Candidate:
    return Candidate(name=name, variant="fp32", target="onnxruntime-cpu", status=status)


def outcome(*candidates: Candidate, winner: str | None = None) -> Outcome:
    return Outcome(
        recipe="wine", recipe_digest="0", run_id="r", winner=winner, why="because", baseline={},
        candidates=candidates, seconds={}, cached=(),
    )  # fmt: skip


def test_statuses_are_the_strings_that_programs_know() -> None:
    made = outcome(*(candidate(status.name, status) for status in CandidateStatus))
    told = json.loads(json.dumps(made.to_json()))
    assert [c["status"] for c in told["candidates"]] == [
        "passed",
        "gated",
        "failed",
        "unchanged",
        "skipped",
    ]
    assert Outcome.model_validate(told) == made


@pytest.mark.parametrize(
    ("status", "measured"),
    [
        ("passed", True),
        ("gated", True),
        ("failed", False),
        ("unchanged", False),
        ("skipped", False),
    ],
)
def test_what_was_measured_has_a_verdict(status: str, measured: bool) -> None:
    assert CandidateStatus(status).is_measured is measured


def test_the_winning_candidate_is_found_by_its_name() -> None:
    one, two = candidate("a", CandidateStatus.PASSED), candidate("b", CandidateStatus.PASSED)
    assert outcome(one, two, winner="b").winning == two
    assert outcome(one, two).winning is None


def test_an_outcome_that_was_kept_before_there_was_a_winner_is_read() -> None:
    told = outcome(candidate("a", CandidateStatus.PASSED)).to_json()
    del told["winner"]
    assert Outcome.model_validate(told).winner is None
