"""Only the run of a process that is surely gone is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.tasks.tracking import liveness, names
from prefect_hone.tasks.tracking.liveness import Looks, is_gone, owner_in, owner_tags, this_process


@pytest.fixture
def looks(tmp_path: Path) -> Looks:
    return Looks(tmp_path / "looks.json")


def tags(**changed: object) -> dict[str, str]:
    owner = this_process().model_copy(update=changed)
    return {names.OWNER: owner.model_dump_json(), names.HEARTBEAT: "1"}


def test_this_process_lives(looks: Looks) -> None:
    assert not looks.is_dead("r", owner_tags())


def test_one_that_ended_is_gone(looks: Looks) -> None:
    code = (
        "from prefect_hone.tasks.tracking.liveness import this_process\n"
        "print(this_process().model_dump_json())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert looks.is_dead("r", {names.OWNER: done.stdout.strip()})


def test_another_process_with_its_number_is_not_it() -> None:
    owner = this_process()
    assert is_gone(owner) is False
    assert is_gone(owner.model_copy(update={"ticks": owner.ticks - 1})) is True


def test_a_stepped_clock_ends_nobody(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    before = owner_tags()
    monkeypatch.setattr(liveness.time, "time", lambda: 9e9)
    monkeypatch.setattr(liveness.time, "time_ns", lambda: 9 * 10**18)
    assert not looks.is_dead("r", before)
    assert not looks.is_dead("other", tags(host="elsewhere", boot="b", machine="m"))


@pytest.mark.parametrize(
    "changed",
    [{"pid_space": 17}, {"pid_space": 17, "pid": 2**30}, {"boot": "b", "machine": "m"},
     {"boot": "b", "host": "elsewhere"}, {"boot": "b", "pid_space": 17}],
)  # fmt: skip
def test_a_process_out_of_sight_is_not_judged_by_its_number(
    looks: Looks, changed: dict[str, object]
) -> None:
    """Two containers of one name on one machine; another machine."""
    assert not looks.is_dead("r", tags(**changed))


def test_a_machine_that_was_restarted_runs_nothing_from_before(
    looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "_pid_space", lambda: liveness._HOST_PID_SPACE)
    monkeypatch.setattr(liveness, "_text", lambda file: "id")
    assert looks.is_dead("r", tags(boot="an earlier one"))


def test_out_of_sight_a_heartbeat_that_stands_still_for_an_hour_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(liveness, "_since_boot", lambda: now)
    far = tags(host="elsewhere", boot="b")
    file = tmp_path / "looks.json"

    def look(run: dict[str, str]) -> bool:
        looks = Looks(file)
        dead = looks.is_dead("r", run)
        looks.keep()
        return dead

    assert not look(far), "however old its clock says it is"
    now += 3500
    assert not look(far)
    now += 200
    assert not look({**far, names.HEARTBEAT: "2"}), "it beat"
    now += 3700
    assert look({**far, names.HEARTBEAT: "2"})
    monkeypatch.setattr(liveness, "_boot", lambda: "after a restart")
    assert not look({**far, names.HEARTBEAT: "2"}), "its clock began again"


@pytest.mark.parametrize(
    "said",
    ["", "{}", "null", "[1]", "1e999", "{" * 5000, '{"pid": -1}', '{"pid": "x"}', "x" * 100_000,
     json.dumps({"host": "h", "pid": os.getpid(), "started": 1.0}),
     json.dumps({"boot": "b", "pid_space": 1, "pid": 10**30, "ticks": 1})],
    ids=range(11),  # not the text: an id of a process differs between pytest-xdist's workers
)  # fmt: skip
def test_an_odd_tag_is_nobodys(looks: Looks, said: str) -> None:
    assert owner_in(said) is None
    assert not looks.is_dead("r", {names.OWNER: said, names.HEARTBEAT: "not a number"})


@pytest.mark.parametrize("content", ["", "[]", '{"r": 1}', '{"r": ["a", "b", "c"]}', "[" * 10**5])
def test_damaged_looks_are_forgotten(tmp_path: Path, content: str) -> None:
    (tmp_path / "looks.json").write_text(content)
    assert not Looks(tmp_path / "looks.json").is_dead("r", tags(host="elsewhere", boot="b"))
