"""What `hone doctor` checks of registry events: the rules, and whether MLflow's events arrive."""

from __future__ import annotations

import os
from typing import Literal

from ...recipe.errors import AccessRefused, HoneError
from ...tasks.tracking.webhooks import Webhooks
from .registration import NAME
from .rules import RULES, configured_rules
from .starting import PrefectStarter

State = Literal["good", "note", "bad"]


def check_events(tracking: str, has_prefect: bool) -> list[tuple[str, State, str]]:
    """Check what is configured for registry events; nothing if nothing is.

    Args:
        tracking: The MLflow server.
        has_prefect: Whether a Prefect server is configured and answers.

    Returns:
        Subject, state and text of each finding.
    """
    found = [_rules(has_prefect)] if os.environ.get(RULES) else []
    if tracking.startswith(("http://", "https://")):
        found += _webhooks(tracking, wanted=bool(found))
    return found


def _rules(has_prefect: bool) -> tuple[str, State, str]:
    try:
        rules = configured_rules()
        if has_prefect:
            PrefectStarter().check(rules)
    except HoneError as error:
        return "rules", "bad", str(error)
    text = f"{len(rules)} rules in {os.environ[RULES]}"
    return "rules", "good", text if has_prefect else f"{text}; their deployments were not looked at"


def _webhooks(tracking: str, wanted: bool) -> list[tuple[str, State, str]]:
    webhooks = Webhooks(tracking)
    try:
        ours = [w for w in webhooks.all() if w.name.split(".")[0] == NAME]
        if not ours:
            text = "MLflow delivers no events: hone listen --register --url https://HOST"
            return [("webhooks", "note", text)] if wanted else []
        found: list[tuple[str, State, str]] = []
        for webhook in ours:
            wrong = webhooks.test(webhook) if webhook.active else "it is disabled"
            state: State = "good" if wrong is None else "bad"
            text = "an example arrived" if wrong is None else f"no event arrives: {wrong}"
            found.append(("webhooks", state, f"{webhook.url}: {text}"))
        return found
    except AccessRefused as error:
        return [("webhooks", "note", str(error))] if wanted else []
    except HoneError as error:
        return [("webhooks", "bad", str(error))]
