"""The outcome of a run as MLflow keeps it."""

from __future__ import annotations

from pydantic import ValidationError

from ...recipe.errors import InputError
from ..outcome import Outcome
from .run_files import read_run_file

#: The file in a run of a recipe.
OUTCOME = "outcome.json"


def read_outcome(tracking: str, which: str, wait: float = 20.0) -> Outcome:
    """The outcome of a run.

    Args:
        tracking: The tracking server.
        which: MLflow's id of the run, or of one of its candidates' runs; or the name of a recipe,
            for its newest run.
        wait: How long to wait for a server that is away (s).

    Raises:
        InputError: There is no such run, or it has no outcome.
        ServerUnreachable: The server stayed away.
    """
    run_id, text = read_run_file(tracking, which, OUTCOME, "outcome", wait)
    try:
        return Outcome.model_validate_json(text)
    except ValidationError:
        raise InputError(
            f"{OUTCOME} of run {run_id} was written by another version of Hone",
            where=f"run {which}",
            do="read outcome.md beside it in MLflow",
        ) from None
