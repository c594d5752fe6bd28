"""The example automations are ones that Prefect takes, on events that Hone emits."""

from __future__ import annotations

from pathlib import Path

import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect_hone.flows.engine import events

EXAMPLES = Path(__file__).parents[3] / "infra" / "automations"


def test_the_examples_are_valid_and_wait_for_events_of_hone() -> None:
    emitted = {value for name, value in vars(events).items() if name.isupper()}
    found = [
        AutomationCore.model_validate(item)
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for item in yaml.safe_load(path.read_text())["automations"]
    ]
    assert len(found) == 4
    for automation in found:
        assert set(automation.trigger.expect) <= emitted
