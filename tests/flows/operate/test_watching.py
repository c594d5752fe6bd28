"""Each change of the registry starts its deployment once, whoever sees it and however often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from made_registry import MadePrefect, MadeRegistry, Place
from prefect_hone.flows.operate.rules import Kind
from prefect_hone.flows.operate.watching import Hint
from prefect_hone.recipe.errors import InputError, ServerUnreachable, StoreError


def candidate(model: str) -> Hint:
    return Hint(Kind.ALIAS, model, name="candidate")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "one")
    made.watcher.begin()
    return made


def test_what_is_there_when_a_rule_is_new_starts_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.registry.create("raw-a")
    place.registry.create("digits-a")
    place.registry.aliases["digits-a", "candidate"] = "1"
    assert place.watcher.begin() == 3
    assert place.watcher.begin() == 0
    assert place.watcher.poll().started == []
    place.registry.create("raw-a")
    (started,) = place.watcher.poll().started
    assert (started.deployment, started.label) == ("optimize/hone", "raw-a version 2")
    assert place.prefect.started() == [{"source": "models:/raw-a/2"}]


def test_an_event_and_the_poll_that_looks_for_lost_ones_start_once(place: Place) -> None:
    place.registry.create("digits-a")
    place.registry.aliases["digits-a", "candidate"] = "1"
    assert len(place.watcher.look(candidate("digits-a")).started) == 1
    assert place.watcher.look(candidate("digits-a")).started == []
    assert place.watcher.poll().started == []
    assert place.prefect.started() == [
        {"model": "digits-a", "version": "1", "why": "candidate was set"}
    ]


def test_each_time_that_an_alias_moves_is_a_change_also_back_to_where_it_was(place: Place) -> None:
    for _ in range(2):
        place.registry.create("digits-a")
    for version in ("1", "2", "1", "2"):
        place.registry.aliases["digits-a", "candidate"] = version
        assert len(place.watcher.look(candidate("digits-a")).started) == 1
    assert [p["version"] for p in place.prefect.started()] == ["1", "2", "1", "2"]


def test_an_alias_that_is_deleted_and_set_again_is_a_change(place: Place) -> None:
    place.registry.create("digits-a")
    place.registry.aliases["digits-a", "candidate"] = "1"
    place.watcher.look(candidate("digits-a"))
    del place.registry.aliases["digits-a", "candidate"]
    assert place.watcher.look(candidate("digits-a")).started == []
    place.registry.aliases["digits-a", "candidate"] = "1"
    assert len(place.watcher.look(candidate("digits-a")).started) == 1
    del place.registry.aliases["digits-a", "candidate"]
    place.watcher.poll()
    place.registry.aliases["digits-a", "candidate"] = "1"
    assert len(place.watcher.poll().started) == 1
    assert len(place.prefect.runs) == 3


def test_a_model_that_is_made_again_has_other_versions_of_the_same_number(place: Place) -> None:
    place.registry.create("raw-a")
    assert len(place.watcher.poll().started) == 1
    place.registry.delete("raw-a")
    place.registry.create("raw-a")
    assert len(place.watcher.poll().started) == 1
    assert len(place.prefect.runs) == 2


def test_a_tag_starts_only_with_the_value_that_the_rule_names(place: Place) -> None:
    place.registry.create("digits-a")
    hint = Hint(Kind.TAG, "digits-a", "1", "hone.approval")
    place.registry.tag("digits-a", "1", "hone.approval", "requested")
    assert place.watcher.look(hint).started == []
    place.registry.tag("digits-a", "1", "hone.approval", "approved")
    assert len(place.watcher.look(hint).started) == 1
    assert place.watcher.poll().started == []
    place.registry.tag("digits-a", "1", "hone.approval", "requested")
    assert place.watcher.poll().started == []
    place.registry.tag("digits-a", "1", "hone.approval", "approved")
    assert len(place.watcher.poll().started) == 1


def test_an_event_about_what_this_registry_does_not_have_starts_nothing(place: Place) -> None:
    assert place.watcher.look(candidate("digits-of-another")).started == []
    assert place.watcher.look(Hint(Kind.VERSION, "raw-of-another", "3")).started == []
    assert place.prefect.asked == 0


def test_two_machines_without_a_common_disk_start_once(tmp_path: Path) -> None:
    registry, prefect = MadeRegistry(), MadePrefect()
    here = Place(tmp_path / "here", registry, prefect)
    there = Place(tmp_path / "there", registry, prefect)
    for place in (here, there):
        place.watcher.begin()
    for _ in range(3):
        registry.create("digits-a")
    for version in ("1", "2", "1"):
        registry.aliases["digits-a", "candidate"] = version
        here.watcher.look(candidate("digits-a"))
    assert there.watcher.poll().started == [], "it saw only the last of three"
    assert len(prefect.runs) == 3
    registry.aliases["digits-a", "candidate"] = "3"
    there.watcher.poll()
    here.watcher.look(candidate("digits-a"))
    assert len(prefect.runs) == 4


def test_a_start_that_was_made_and_not_noted_is_not_made_again(place: Place) -> None:
    """As after kill -9 between Prefect's answer and the note of it."""
    place.registry.create("digits-a")
    place.registry.create("raw-a")
    place.registry.aliases["digits-a", "candidate"] = "1"

    def die() -> None:
        raise KeyboardInterrupt

    place.prefect.after = die
    for hint in (candidate("digits-a"), Hint(Kind.VERSION, "raw-a", "1")):
        with pytest.raises(KeyboardInterrupt):
            place.watcher.look(hint)
    place.prefect.after = None
    place.watcher.poll()
    place.watcher.poll()
    assert len(place.prefect.runs) == 2


@pytest.mark.parametrize("between", ["2", None])
def test_an_alias_that_goes_back_after_a_start_that_was_not_noted(
    place: Place, between: str | None
) -> None:
    """The note says what was before the start; that is where the alias is again."""
    for _ in range(2):
        place.registry.create("digits-a")

    def die() -> None:
        raise KeyboardInterrupt

    place.registry.aliases["digits-a", "candidate"] = "1"
    if between is not None:
        place.watcher.poll()
        place.registry.aliases["digits-a", "candidate"] = between
    place.prefect.after = die
    with pytest.raises(KeyboardInterrupt):
        place.watcher.poll()
    place.prefect.after = None
    if between is None:
        del place.registry.aliases["digits-a", "candidate"]
        place.watcher.poll()
    place.registry.aliases["digits-a", "candidate"] = "1"
    assert len(place.watcher.poll().started) == 1
    assert place.watcher.poll().started == []
    versions = [p["version"] for p in place.prefect.started()]
    assert versions == (["1", "2", "1"] if between else ["1", "1"])


def test_a_server_that_is_away_loses_nothing(place: Place) -> None:
    place.registry.create("raw-a")
    place.prefect.away = True
    with pytest.raises(ServerUnreachable):
        place.watcher.poll()
    place.prefect.away, place.registry.away = False, True
    with pytest.raises(ServerUnreachable):
        place.watcher.poll()
    place.registry.away = False
    assert len(place.watcher.poll().started) == 1


def test_one_deployment_that_is_wrong_keeps_no_other_from_starting(place: Place) -> None:
    place.registry.create("raw-a")
    place.prefect.error = InputError("there is no deployment 'optimize/hone'")
    report = place.watcher.poll()
    assert (report.started, len(report.problems)) == ([], 1)
    assert "raw-a version 1: there is no deployment" in report.problems[0]
    place.prefect.error = None
    assert len(place.watcher.poll().started) == 1, "it is tried again"


def test_fifty_events_while_nobody_listens_start_once_each(place: Place) -> None:
    for number in range(25):
        place.registry.create(f"raw-{number}")
        place.registry.create(f"digits-{number}")
        place.registry.aliases[f"digits-{number}", "candidate"] = "1"
    assert len(place.watcher.poll().started) == 50
    assert place.watcher.poll().started == []
    assert len(place.prefect.runs) == place.prefect.asked == 50


def test_polls_and_events_at_once_start_once_each(tmp_path: Path) -> None:
    registry, prefect = MadeRegistry(), MadePrefect()
    places = [Place(tmp_path, registry, prefect) for _ in range(3)]
    for place in places:
        place.watcher.begin()
    for number in range(20):
        registry.create(f"digits-{number}")
        registry.aliases[f"digits-{number}", "candidate"] = "1"

    def events(place: Place) -> None:
        for number in range(20):
            place.watcher.look(candidate(f"digits-{number}"))

    jobs = [threading.Thread(target=events, args=(place,)) for place in places]
    jobs += [threading.Thread(target=place.watcher.poll) for place in places]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert prefect.asked == len(prefect.runs) == 20


def test_a_dead_process_keeps_nobody_out(place: Place, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from prefect_hone.flows.operate.listener_state import ListenerState\n"
        "with ListenerState(Path(sys.argv[1])).alone():\n    print('in', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "one")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"in\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert place.watcher.poll().started == []


def test_a_state_file_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "listener.db").write_bytes(
        b"not a database, though as long as the header of one" * 4
    )
    with pytest.raises(StoreError, match="can't be used"):
        Place(tmp_path)
