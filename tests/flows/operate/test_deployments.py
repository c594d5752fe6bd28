"""Deployments before they are on a server: schedules, entry points, and what is refused."""

from __future__ import annotations

import pytest
from prefect_hone.flows.operate.deployments import Asked, When, build, require_pool
from prefect_hone.recipe.errors import InputError


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"cron": "0 2 * *"}, "--cron: Invalid cron string"),
        ({"cron": "nightly"}, "--cron: Invalid cron string"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Berln"}, "--timezone: Invalid timezone"),
        ({"rrule": "FREQ=OFTEN"}, "--rrule: Invalid RRule"),
        ({"interval": 0}, "--interval: "),
        ({"interval": 60, "cron": "* * * * *"}, "give one of --cron and --interval"),
        ({"timezone": "UTC"}, "a time zone needs a schedule"),
        ({"cron": "0 2 31 2 *"}, "--cron: it never comes"),
        ({"rrule": "FREQ=DAILY;UNTIL=20200101T000000"}, "--rrule: it never comes again"),
    ],
)
def test_a_schedule_that_is_none(when: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        When(**when).schedule()


@pytest.mark.parametrize("name", ["", " ", "a/b", "50%", "a\nb"])
def test_a_name_that_prefect_does_not_take(name: str) -> None:
    with pytest.raises(InputError, match="name") as found:
        build(Asked(name))
    assert found.value.where == "--name"
    with pytest.raises(InputError, match="name"):
        require_pool(name)  # no server is asked


def test_a_deployment_names_its_flow_by_module() -> None:
    made = build(
        Asked(
            "nightly",
            parameters={"recipe": "digits"},
            when=When(cron="0 2 * * *", timezone="Europe/Berlin"),
            tags=("team",),
        )
    )
    assert made.entrypoint == "prefect_hone.flows.accelerate.accelerate"
    (planned,) = made.schedules
    assert (planned.schedule.cron, planned.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    assert made.tags == ["hone", "team"]
    assert made.concurrency_limit == 1
    assert build(Asked("by-hand")).schedules == []
