"""`hone why`: why a candidate of a run won or lost, in words."""

from __future__ import annotations

from ...recipe.errors import InputError, did_you_mean
from ...tasks.outcome import Candidate, Outcome
from ...tasks.report.why import in_short, why
from ...tasks.tracking.outcomes import read_outcome
from ..engine.home import usable_settings


def outcome_of(run: str) -> Outcome:
    """The outcome of a run, by its id or the name of its recipe.

    Raises:
        HoneError: There is none, or MLflow does not answer.
    """
    return read_outcome(usable_settings().tracking, run)


def candidate_of(outcome: Outcome, name: str) -> Candidate:
    """A candidate of a run.

    Raises:
        InputError: It has none of this name.
    """
    for candidate in outcome.candidates:
        if candidate.name == name:
            return candidate
    known = [candidate.name for candidate in outcome.candidates]
    raise InputError(
        f"the run has no candidate '{name}': {did_you_mean(name, known)}",
        where=f"run {outcome.run_id}",
    )


def explained(outcome: Outcome, name: str | None) -> str:
    """Why a candidate won or lost; of all candidates in short without a name.

    Raises:
        InputError: The run has no candidate of this name.
    """
    if name is None:
        return in_short(outcome)
    return why(outcome, candidate_of(outcome, name))
