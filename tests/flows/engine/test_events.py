"""Events and assets that a run emits, and their names."""

from __future__ import annotations

from typing import Any

import pytest
from made_runs import recipe
from prefect.assets import Asset
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_hone.flows.engine import champion_change, events, promotion
from prefect_hone.flows.engine.assets import asset_key, model_asset, of_model
from prefect_hone.tasks.decide import GateResult
from prefect_hone.tasks.outcome import ArtifactSaid, Candidate, CandidateStatus, Outcome
from prefect_hone.tasks.tracking.ledger import Action, Entry, Event, Record
from prefect_hone.tasks.tracking.registry import Promotable, Promotion


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    found: list[tuple[str, dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(events, "_send", lambda *said: found.append(said))
    return found


def candidate(name: str, status: CandidateStatus, passed: bool) -> Candidate:
    variant, _, target = name.partition("@")
    gate = GateResult(
        metric="quality", bound="at_least", limit=0.8, value=0.9, margin=0.1, passed=passed
    )
    return Candidate(
        name=name,
        variant=variant,
        target=target,
        status=status,
        artifact=ArtifactSaid(uri="/x", sha256="a" * 64, bytes=3),
        metrics={"latency/p50_ms": 1.5},
        gates=(gate,),
    )


def promotable() -> Promotable:
    return Promotable(
        model="wine", alias="champion", model_id="m-1", sha256="a" * 64, files={"a": "b"},
        recipe_digest="r",
    )  # fmt: skip


def test_the_winner_is_proven_and_each_that_failed_a_gate_is_told(sent: list[Any]) -> None:
    outcome = Outcome(
        recipe="wine", recipe_digest="r", run_id="run", winner="plain@onnxruntime-cpu",
        why="it is the fastest", baseline={}, seconds={}, cached=(),
        candidates=(
            candidate("plain@onnxruntime-cpu", CandidateStatus.PASSED, True),
            candidate("int8@onnxruntime-cpu", CandidateStatus.GATED, False),
            candidate("x@y", CandidateStatus.FAILED, True),
        ),
    )  # fmt: skip
    made = recipe()
    events.candidates_judged(made, outcome)
    assert [event for event, _, _ in sent] == [events.GATE_FAILED, events.PROVEN]
    (_, resource, failed), (_, _, proven) = sent
    assert resource["prefect.resource.id"] == f"hone.model.{made.registry.model}"
    assert resource["hone.candidate"] == "int8@onnxruntime-cpu"
    assert [gate["passed"] for gate in failed["gates"]] == [False]
    assert proven["sha256"] == "a" * 64


@pytest.mark.parametrize(
    ("new", "previous", "told"),
    [(True, None, 1), (True, "1", 1), (False, "1", 1), (False, None, 0)],
)
def test_a_champion_that_stays_is_no_change(
    new: bool, previous: str | None, told: int, sent: list[Any]
) -> None:
    events.promoted(
        promotable(),
        Promotion(model="wine", version="2", alias="champion", new=new, previous=previous),
    )
    assert len(sent) == told
    for event, resource, payload in sent:
        assert event == "hone.champion.changed"
        assert (resource["hone.alias"], payload["after"]) == ("champion", "2")


def test_a_change_is_told_as_the_ledger_has_it(sent: list[Any]) -> None:
    record = Record(
        event=Event.OBSERVED, action=Action.REPAIR, alias="champion", before="1", after="2"
    )
    events.champion_changed("wine", record)
    ((event, _, payload),) = sent
    assert (event, payload["before"], payload["how"]) == (events.CHAMPION_CHANGED, "1", "observed")


def test_an_event_that_can_not_be_sent_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise RuntimeError("no server")

    monkeypatch.setattr("prefect.events.emit_event", away)
    events.run_recovered("id")  # without a server, nothing is asked of Prefect
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        events.run_recovered("id")


@pytest.mark.parametrize(
    ("tracking", "model", "key"),
    [
        ("http://user:word@mlflow.team:5000", "wine", "mlflow://mlflow.team-5000/models/wine"),
        ("sqlite:////home/x/mlflow.db", "wine-2.1", "mlflow://local/models/wine-2.1"),
        ("https://MLflow.team", "Wine", "mlflow://mlflow.team/models/wine-"),
        ("https://mlflow.team", "my wine?", "mlflow://mlflow.team/models/my-wine--"),
    ],
)
def test_keys_of_assets_are_what_prefect_takes(tracking: str, model: str, key: str) -> None:
    found = asset_key(tracking, model)
    assert found.startswith(key)
    assert Asset(key=found).key == found.lower()
    assert "word" not in str(model_asset(tracking, model))
    assert asset_key(tracking, "n" * 400) != asset_key(tracking, "n" * 401)


@pytest.mark.parametrize(
    "task", [promotion.promote_task, champion_change._promote, champion_change._roll_back]
)
def test_a_task_that_moves_an_alias_materializes_its_model_and_is_never_cached(task: Any) -> None:
    of_wine = of_model(task, "sqlite:///x", "wine")
    assert [asset.key for asset in of_wine.assets] == ["mlflow://local/models/wine"]  # type: ignore[attr-defined]
    assert (of_wine.name, of_wine.retries) == (task.name, 2)  # type: ignore[attr-defined]
    assert "NO_CACHE" in repr(of_wine.cache_policy) or of_wine.cache_policy == task.cache_policy  # type: ignore[attr-defined]
    assert of_wine.retry_condition_fn is task.retry_condition_fn  # type: ignore[attr-defined]
    assert of_wine.materialized_by == "hone"  # type: ignore[attr-defined]


def test_a_promoting_task_tells_its_asset_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Promotion(model="wine", version="2", alias="champion", new=True, previous="1")
    entry = Entry(
        3, 0, Record(event=Event.DONE, alias="champion", before="1", after="2", who="ann")
    )
    monkeypatch.setattr(promotion, "promote", lambda *_, **__: made)
    monkeypatch.setattr(champion_change, "promote_version", lambda *_, **__: entry)
    monkeypatch.setattr(champion_change, "rollback", lambda *_, **__: entry)
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        "prefect_hone.flows.engine.assets.add_asset_metadata", lambda *said: told.append(said)
    )
    assert promotion.promote_task.fn("sqlite:///x", promotable()) == made
    by_hand = ("sqlite:///x", "wine", "2", "it is faster", "ann", "champion")
    assert champion_change._promote.fn(*by_hand) == entry
    assert champion_change._roll_back.fn(*by_hand) == entry
    assert [key for key, _ in told] == ["mlflow://local/models/wine"] * 3
    assert [metadata["version"] for _, metadata in told] == ["2"] * 3
