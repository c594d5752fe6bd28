"""Redo: which steps are computed again although their results are in the store.

`STEP` means every step of that name, `STEP:WHICH` one of them. What follows from them is computed
again too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...recipe.errors import InputError, did_you_mean
from ...tasks.steps import Call


def asked_again(call: Call, redo: Sequence[str]) -> bool:
    """Whether a step itself is to be computed again.

    Args:
        call: The step.
        redo: `STEP` or `STEP:WHICH`, where `WHICH` is the rest of the step's label, its variant or
            its candidate (`compile:int8@openvino-cpu`, `compress:int8`).
    """
    return any(_matches(call, item) for item in redo)


def _matches(call: Call, asked: str) -> bool:
    step, _, which = asked.strip().partition(":")
    if step != call.step.name:
        return False
    rest = call.label.removeprefix(call.step.name).strip()
    return not which or which in (rest, rest.partition(" ")[0], call.candidate)


def check_redo(redo: Sequence[str], calls: Iterable[Call]) -> None:
    """Refuse what names no step of the run.

    Raises:
        InputError: With the steps that there are.
    """
    known = list(calls)
    for asked in redo:
        if any(_matches(call, asked) for call in known):
            continue
        names = list(dict.fromkeys(call.step.name for call in known))
        step, _, which = asked.strip().partition(":")
        if step not in names:
            what = f"this run has no step '{step}': {did_you_mean(step, names)}"
        else:
            rest = [
                call.label.removeprefix(step).strip() for call in known if call.step.name == step
            ]
            what = f"no step '{step}' is called '{which}': {did_you_mean(which, rest)}"
        raise InputError(what, where=f"redo: {asked}", do="give STEP or STEP:CANDIDATE")
