"""The ledger tells how the champion changed, whatever ended the processes that changed it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import HoneError, InputError
from prefect_hone.tasks.tracking import liveness, names, turn
from prefect_hone.tasks.tracking.ledger import Action, Entry, Event, Ledger, Record
from prefect_hone.tasks.tracking.ledger_state import state_of
from prefect_hone.tasks.tracking.liveness import this_process
from prefect_hone.tasks.tracking.registry import promote
from prefect_hone.tasks.tracking.rollback import history, repair, rollback

from ...support.logged_models import aliases, place_of, plain, store


class Killed(BaseException):
    """Ends a promotion as kill -9 does: nothing of it is cleaned up."""


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    made = store(databases, tmp_path)
    mlflow.set_tracking_uri(made)
    return made


def moves(uri: str) -> list[tuple[str | None, str | None]]:
    return [(e.record.before, e.record.after) for e in history(uri, "wine")]


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, after: bool) -> list[str]:
    """Let the `step`-th change of the registry be the last; returns what was changed till then."""
    done: list[str] = []
    names_of_changes = (
        "create_registered_model", "create_model_version", "set_registered_model_alias",
        "set_model_version_tag",
    )  # fmt: skip

    def dying(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def change(self: object, *rest: object, **more: object) -> object:
            if len(done) == step and not after:
                raise Killed
            result = real(self, *rest, **more)
            done.append(name)
            if len(done) > step:
                raise Killed
            return result

        return change

    for name in names_of_changes:
        real = getattr(mlflow.MlflowClient, name)
        monkeypatch.setattr(mlflow.MlflowClient, name, dying(name, real))
    return done


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_a_promotion_killed_at_any_step_is_repaired_by_the_next(
    uri: str, tmp_path: Path, step: int, after: bool
) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    second, third = plain(uri, tmp_path, "b"), plain(uri, tmp_path, "c")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step, after)
        try:
            promote(uri, second)
            assert step > 5, "it was killed too late"
        except Killed:
            pass
    reached = aliases(uri)["champion"]
    promote(uri, third)
    champion = aliases(uri)["champion"]
    told = moves(uri)
    assert told[0] == (None, "1")
    assert told[-1] == (reached, champion), "the ledger says what the alias was at"
    assert aliases(uri)["previous"] == reached
    assert all(one[1] == two[0] for one, two in pairwise(told))
    digest = mlflow.MlflowClient(uri).get_model_version("wine", champion).tags[names.DIGEST]
    assert digest == third.digest
    assert not state_of(Ledger(mlflow.MlflowClient(uri), "wine").entries()).open


@pytest.mark.parametrize("step", range(5))
def test_a_rollback_killed_at_any_step_is_repaired(uri: str, tmp_path: Path, step: int) -> None:
    for content in "abc":
        promote(uri, plain(uri, tmp_path, content))
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step, after=True)
        with pytest.raises(Killed):
            rollback(uri, "wine", "1", "it is slow", "bob")
    reached = aliases(uri)["champion"]
    repair(uri, "wine")
    assert aliases(uri)["champion"] == reached
    assert moves(uri)[-1][1] == reached
    assert aliases(uri)["previous"] == moves(uri)[-1][0]
    assert repair(uri, "wine") == [], "once is enough"


def test_history_says_who_when_and_why(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    promote(uri, plain(uri, tmp_path, "b", who="bob"))
    entry = rollback(uri, "wine", None, "it is slow", "carol")
    assert (entry.record.before, entry.record.after) == ("2", "1")
    assert aliases(uri) == {"champion": "1", "previous": "2"}
    told = history(uri, "wine")
    assert [e.record.who for e in told] == ["ann", "bob", "carol"]
    assert [e.record.action for e in told] == [Action.PROMOTE, Action.PROMOTE, Action.ROLLBACK]
    assert told[-1].record.why == "it is slow"
    assert told[-1].record.sentence == "champion: 2 → 1, rollback by carol: it is slow"
    assert [e.number for e in told] == sorted(e.number for e in told)
    assert all(e.time_ms > 1e12 for e in told)
    assert told[0].record.evidence[names.DIGEST] == told[-1].record.evidence[names.DIGEST]


def test_rollbacks_go_further_back_each_time(uri: str, tmp_path: Path) -> None:
    for content in "abc":
        promote(uri, plain(uri, tmp_path, content))
    assert rollback(uri, "wine", None, "r", "bob").record.after == "2"
    assert rollback(uri, "wine", None, "r", "bob").record.after == "1"
    with pytest.raises(InputError, match="no earlier champion to go back to"):
        rollback(uri, "wine", None, "r", "bob")
    assert aliases(uri)["champion"] == "1"
    assert rollback(uri, "wine", "3", "r", "bob").record.after == "3"


def test_what_cant_be_gone_back_to(uri: str, tmp_path: Path) -> None:
    first = plain(uri, tmp_path, "a")
    promote(uri, first)
    with pytest.raises(InputError, match="needs a reason"):
        rollback(uri, "wine", "1", "  ", "bob")
    with pytest.raises(InputError, match="is the champion already"):
        rollback(uri, "wine", "1", "r", "bob")
    with pytest.raises(InputError, match=r"version 9 of wine is not there: the registry has 1$"):
        rollback(uri, "wine", "9", "r", "bob")
    with pytest.raises(InputError, match="'one' is no version"):
        rollback(uri, "wine", "one", "r", "bob")
    with pytest.raises(InputError, match="the registry has no model beer"):
        rollback(uri, "beer", None, "r", "bob")
    promote(uri, plain(uri, tmp_path, "b"))
    (place_of(uri, first.model_id) / "MLmodel").write_text("evil")
    with pytest.raises(HoneError, match="nothing was changed"):
        rollback(uri, "wine", None, "r", "bob")
    client = mlflow.MlflowClient(uri)
    client.delete_model_version("wine", "1")
    with pytest.raises(InputError, match="version 1 of wine is not there any more"):
        rollback(uri, "wine", None, "r", "bob")
    assert aliases(uri)["champion"] == "2"
    assert moves(uri) == [(None, "1"), ("1", "2")]


def test_bytes_and_tag_changed_together_differ_from_the_ledger(uri: str, tmp_path: Path) -> None:
    first = plain(uri, tmp_path, "a")
    promote(uri, first)
    promote(uri, plain(uri, tmp_path, "b"))
    (place_of(uri, first.model_id) / "MLmodel").write_text("evil")
    from prefect_hone.tasks.tracking.registered_bytes import verify

    found = verify(uri, "wine", "1").found
    mlflow.MlflowClient(uri).set_model_version_tag("wine", "1", names.DIGEST, found)
    with pytest.raises(HoneError, match="does not hold what the ledger says"):
        rollback(uri, "wine", "1", "r", "bob")


def test_a_change_past_hone_is_entered_as_such(uri: str, tmp_path: Path) -> None:
    for content in "ab":
        promote(uri, plain(uri, tmp_path, content))
    client = mlflow.MlflowClient(uri)
    client.set_registered_model_alias("wine", "champion", "1")
    (entry,) = repair(uri, "wine")
    assert entry.record.event is Event.OBSERVED
    assert entry.record.sentence.startswith("champion: 2 → 1, past Hone")
    client.delete_registered_model_alias("wine", "champion")
    promotion = promote(uri, plain(uri, tmp_path, "c"))
    assert promotion.previous is None
    assert moves(uri)[-2:] == [("1", None), (None, promotion.version)]


def test_an_entry_that_was_sent_twice_is_told_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client sends a request again if a slow server's answer is late."""
    real = Ledger.append

    def twice(self: Ledger, record: Record) -> None:
        real(self, record)
        real(self, record)

    monkeypatch.setattr(Ledger, "append", twice)
    for content in "ab":
        promote(uri, plain(uri, tmp_path, content))
    mlflow.MlflowClient(uri).set_registered_model_alias("wine", "champion", "1")
    assert len(repair(uri, "wine")) == 1
    rollback(uri, "wine", "2", "r", "bob")
    assert moves(uri) == [(None, "1"), ("1", "2"), ("2", "1"), ("1", "2")]
    assert repair(uri, "wine") == []


def test_a_champion_from_before_the_ledger(uri: str, tmp_path: Path) -> None:
    asked = plain(uri, tmp_path, "a")
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("wine")
    client.create_model_version("wine", f"models:/{asked.model_id}")
    client.set_registered_model_alias("wine", "champion", "1")
    promote(uri, plain(uri, tmp_path, "b"))
    assert moves(uri) == [(None, "1"), ("1", "2")]
    assert history(uri, "wine")[0].record.why == "it was there before the ledger"


def intent(owner: str, name: str = "other") -> Record:
    return Record(event=Event.INTENT, intent=name, alias="champion", who="bob", owner=owner)


def test_another_that_goes_on_is_waited_for_and_then_told(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_hone.tasks.tracking import registry

    ledger = Ledger(mlflow.MlflowClient(uri), "wine")
    far = this_process().model_copy(update={"boot": "b", "machine": "m"}).model_dump_json()
    ledger.append(intent(far))
    monkeypatch.setattr(registry, "_TURN", 0.3)
    with pytest.raises(HoneError, match="another promote of wine has been going on"):
        promote(uri, plain(uri, tmp_path, "a"))
    assert aliases(uri) == {}
    monkeypatch.setattr(turn, "LEASE", 0.0)
    assert promote(uri, plain(uri, tmp_path, "a")).version == "1"


def test_one_that_ends_in_order_while_another_looks_is_closed_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(mlflow.MlflowClient(uri), "wine")
    ledger.append(intent(""))

    def ended_just_now(entry: Entry, _: float) -> bool:
        ledger.append(entry.record.model_copy(update={"event": Event.ABORTED}))
        return True

    monkeypatch.setattr(turn, "_is_dead", ended_just_now)
    assert promote(uri, plain(uri, tmp_path, "a")).version == "1"
    closed = [e for e in ledger.entries() if e.record.intent == "other"]
    assert [e.record.event for e in closed] == [Event.INTENT, Event.ABORTED]


@pytest.mark.parametrize("owner", ["", "{}", "[" * 1000, "not json"])
def test_an_intent_of_nobody_ends_with_its_lease(
    uri: str, tmp_path: Path, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "LEASE", 0.0)
    Ledger(mlflow.MlflowClient(uri), "wine").append(intent(owner))
    assert promote(uri, plain(uri, tmp_path, "a")).version == "1"


def test_one_that_was_taken_for_dead_moves_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was only slow; before it moves the alias it looks whether its intent is still open."""
    slow, quick = plain(uri, tmp_path, "a"), plain(uri, tmp_path, "b")
    real = turn.Turn.claim

    def delayed(self: turn.Turn, version: object) -> None:
        monkeypatch.setattr(turn.Turn, "claim", real)
        with monkeypatch.context() as other:
            other.setattr(turn, "LEASE", -1.0)
            other.setattr(liveness, "_boot", lambda: "another machine")
            assert promote(uri, quick).version == "2"
        real(self, version)

    monkeypatch.setattr(turn.Turn, "claim", delayed)
    with pytest.raises(HoneError, match="took it for dead"):
        promote(uri, slow)
    assert aliases(uri) == {"champion": "2"}
    assert moves(uri) == [(None, "2")]


def test_what_somebody_else_puts_into_the_ledger_is_left_out(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    client = mlflow.MlflowClient(uri)
    for content in ("{", "[]", '{"event": "moved"}', '{"event": "done", "alias": 3}', "x" * 9000):
        client.create_model_version("wine.ledger", "x:/", tags={names.LEDGER: content})
    client.create_model_version("wine.ledger", "x:/")
    closing = Record(event=Event.DONE, intent="nobody's", alias="champion", after="9")
    Ledger(client, "wine").append(closing)
    assert moves(uri) == [(None, "1")]
    assert promote(uri, plain(uri, tmp_path, "b")).previous == "1"
