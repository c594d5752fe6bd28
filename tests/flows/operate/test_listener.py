"""The webhook against those who forge, replay and flood it; and that what is accepted is not lost.

The signature's other side is MLflow's own code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_registry import SECRET, Place, alias_set, event, signed, version_created
from mlflow.webhooks.delivery import _generate_hmac_signature
from prefect_hone.flows.operate.webhook import LARGEST_BODY, create_app
from prefect_hone.recipe.errors import InputError, StoreError
from starlette.testclient import TestClient


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.registry.create("digits-a")
    made.registry.create("raw-a")
    return made


@pytest.fixture
def client(place: Place) -> Iterator[TestClient]:
    with TestClient(create_app(place.listener())) as made:
        place.registry.aliases["digits-a", "candidate"] = "1"
        yield made


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def counts(client: TestClient) -> dict[str, int]:
    return dict(client.get("/health").json()["deliveries"])


def done(client: TestClient) -> bool:
    return counts(client)["waiting"] == 0


BODY = alias_set("digits-a", "1")


def test_what_mlflow_signs_is_accepted_and_starts_the_rule_s_deployment(
    place: Place, client: TestClient
) -> None:
    stamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": "d-1",
        "X-MLflow-Timestamp": stamp,
        "X-MLflow-Signature": _generate_hmac_signature(SECRET, "d-1", stamp, BODY.decode()),
    }
    answer = client.post("/mlflow", content=BODY, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    until(lambda: done(client))
    assert place.prefect.started() == [
        {"model": "digits-a", "version": "1", "why": "candidate was set"}
    ]


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in signed(BODY).items() if key != name}


Attack = tuple[int, bytes, dict[str, str]]


def attacks() -> dict[str, Attack]:
    """Status, body and headers of each, signed now: a signature is worth five minutes."""

    def with_header(name: str, value: str) -> dict[str, str]:
        return {**signed(BODY), name: value}

    odd_name = event("model_version", "created", name={"$ne": 1}, version="1")
    form = "application/x-www-form-urlencoded"
    return {
        "forged signature": (401, BODY, signed(BODY, secret="a secret of somebody else's")),
        "another body": (401, alias_set("digits-b", "1"), signed(BODY)),
        "another id": (401, BODY, with_header("X-MLflow-Delivery-Id", "mine")),
        "another time": (401, BODY, with_header("X-MLflow-Timestamp", str(int(time.time()) + 9))),
        "no signature": (401, BODY, without("X-MLflow-Signature")),
        "an empty signature": (401, BODY, with_header("X-MLflow-Signature", "v1,")),
        "another scheme": (401, BODY, with_header("X-MLflow-Signature", "v2,AAAA")),
        "no base64": (401, BODY, with_header("X-MLflow-Signature", "v1,%%%")),
        "an old delivery": (401, BODY, signed(BODY, at=time.time() - 3600)),
        "a delivery from the future": (401, BODY, signed(BODY, at=time.time() + 3600)),
        "no time": (400, BODY, with_header("X-MLflow-Timestamp", "-1")),
        "no id": (400, BODY, without("X-MLflow-Delivery-Id")),
        "an id that is a path": (400, BODY, with_header("X-MLflow-Delivery-Id", "../x")),
        "a form": (415, BODY, with_header("Content-Type", form)),
        "text": (415, BODY, with_header("Content-Type", "text/plain")),
        "no content type": (415, BODY, without("Content-Type")),
        "compressed": (415, BODY, with_header("Content-Encoding", "gzip")),
        "no JSON": (400, b"alias", signed(b"alias")),
        "UTF-16": (400, "{}".encode("utf-16"), signed("{}".encode("utf-16"))),
        "deep JSON": (400, b"[" * 100_000, signed(b"[" * 100_000)),
        "no event": (400, b"[]", signed(b"[]")),
        "a name that is none": (400, odd_name, signed(odd_name)),
    }


@pytest.mark.parametrize("attack", attacks())
def test_an_attack_has_its_status_and_starts_nothing(
    attack: str, place: Place, client: TestClient
) -> None:
    status, body, headers = attacks()[attack]
    assert client.post("/mlflow", content=body, headers=headers).status_code == status
    assert sum(counts(client).values()) == 0
    assert place.prefect.asked == 0


def test_an_oversized_body_is_refused_before_it_is_read(client: TestClient, place: Place) -> None:
    large = b"x" * (LARGEST_BODY + 1)
    assert client.post("/mlflow", content=large, headers=signed(large)).status_code == 413
    read = 0

    def chunks() -> Iterator[bytes]:  # sent without a length
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 100_000

    assert client.post("/mlflow", content=chunks(), headers=signed(b"")).status_code == 413
    lying = {**signed(BODY), "Content-Length": "9" * 20}
    assert client.post("/mlflow", content=BODY, headers=lying).status_code == 413
    lying = {**signed(BODY), "Content-Length": "9" * 5000}
    assert client.post("/mlflow", content=BODY, headers=lying).status_code == 413
    assert place.prefect.asked == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_or_path(method: str, client: TestClient) -> None:
    assert client.request(method, "/mlflow").status_code == 405
    assert client.post("/other", content=BODY, headers=signed(BODY)).status_code == 404


def test_a_replay_is_answered_and_starts_nothing(place: Place, client: TestClient) -> None:
    headers = signed(BODY)
    assert client.post("/mlflow", content=BODY, headers=headers).status_code == 202
    until(lambda: done(client))
    again = client.post("/mlflow", content=BODY, headers=headers)
    assert (again.status_code, again.json()) == (200, {"status": "repeated"})
    until(lambda: done(client))
    assert place.prefect.asked == 1


def test_a_replay_after_a_restart(place: Place, client: TestClient) -> None:
    headers = signed(BODY)
    client.post("/mlflow", content=BODY, headers=headers)
    until(lambda: done(client))
    later = Place(place.folder, place.registry, place.prefect)
    with TestClient(create_app(later.listener())) as restarted:
        assert restarted.post("/mlflow", content=BODY, headers=headers).json() == {
            "status": "repeated"
        }


def test_an_event_of_another_registry_starts_nothing(place: Place, client: TestClient) -> None:
    """Signed rightly, since both have the secret; but this registry has no such thing."""
    for body in (alias_set("digits-there", "4"), version_created("raw-a", "17"),
                 alias_set("digits-a", "1", "nightly")):  # fmt: skip
        assert client.post("/mlflow", content=body, headers=signed(body)).status_code in (200, 202)
    until(lambda: done(client))
    assert place.prefect.asked == 0


def test_the_payload_is_not_believed(place: Place, client: TestClient) -> None:
    """It says version 7; the registry says 1."""
    body = alias_set("digits-a", "7")
    client.post("/mlflow", content=body, headers=signed(body))
    until(lambda: done(client))
    assert [p["version"] for p in place.prefect.started()] == ["1"]


@pytest.mark.parametrize(
    "body",
    [
        event("prompt", "created", name="digits-a", tags={}, description=None),
        event("registered_model", "created", name="raw-a", tags={}, description=None),
        event("something", "new", name="x"),
        version_created("no-rule-for-it", "1"),
    ],
)
def test_an_event_that_no_rule_waits_for_is_ignored(
    body: bytes, place: Place, client: TestClient
) -> None:
    answer = client.post("/mlflow", content=body, headers=signed(body))
    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert sum(counts(client).values()) == 0


def test_while_a_secret_is_replaced_both_are_accepted(place: Place) -> None:
    listener = place.listener()
    listener.secrets = ["the new secret, as long as it has to be", SECRET]
    with TestClient(create_app(listener)) as client:
        for secret in listener.secrets:
            headers = signed(BODY, secret=secret)
            assert client.post("/mlflow", content=BODY, headers=headers).status_code == 202


def test_a_thousand_deliveries_at_once_start_each_deployment_once(place: Place) -> None:
    """100 changes, each delivered ten times: five with ids of their own, five repeated."""
    listener = place.listener()
    bodies = []
    for number in range(50):
        place.registry.create(f"digits-{number}")
        place.registry.create(f"raw-{number}")
        place.registry.aliases[f"digits-{number}", "candidate"] = "1"
        bodies += [alias_set(f"digits-{number}", "1"), version_created(f"raw-{number}", "1")]
    sent = [(body, signed(body)) for body in bodies for _ in range(5)] * 2
    assert len(sent) == 1000

    async def burst() -> list[int]:
        transport = httpx.ASGITransport(create_app(listener))
        async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:

            async def post(body: bytes, headers: dict[str, str]) -> int:
                answer = await client.post("/mlflow", content=body, headers=headers)
                return answer.status_code

            return list(await asyncio.gather(*(post(*delivery) for delivery in sent)))

    listener.start()
    try:
        statuses = asyncio.run(burst())
        assert sorted(set(statuses)) == [200, 202]
        assert statuses.count(202) == 500
        until(lambda: listener.deliveries.counts()["done"] == 500, seconds=60)
    finally:
        listener.close()
    assert place.prefect.asked == len(place.prefect.runs) == 100


def test_what_is_answered_is_done_after_a_crash(place: Place) -> None:
    """A delivery is on the disk before its sender hears of it; nothing else has to survive."""
    listener = place.listener()  # its threads never start: the process died
    place.registry.aliases["digits-a", "candidate"] = "1"
    lowered = {key.lower(): value for key, value in signed(BODY).items()}
    assert listener.take_in(lowered, BODY) == (202, "accepted")
    later = Place(place.folder, place.registry, place.prefect)
    with TestClient(create_app(later.listener())) as client:
        until(lambda: done(client))
    assert len(place.prefect.runs) == 1


def test_a_delivery_waits_while_a_server_is_away(place: Place, client: TestClient) -> None:
    place.prefect.away = True
    client.post("/mlflow", content=BODY, headers=signed(BODY))
    time.sleep(0.2)
    assert counts(client)["waiting"] == 1
    place.prefect.away = False
    until(lambda: done(client))
    assert len(place.prefect.runs) == 1


def test_a_delivery_that_can_not_start_anything_fails_with_its_reason(
    place: Place, client: TestClient
) -> None:
    place.prefect.error = InputError("there is no deployment 'promote/hone'")
    client.post("/mlflow", content=BODY, headers=signed(BODY))
    until(lambda: counts(client)["failed"] == 1)
    ((note,),) = place.state.run("SELECT note FROM deliveries")
    assert "there is no deployment 'promote/hone'" in note
    assert 'hone_listener_problems_total{noticed_by="event"} 1.0' in client.get("/metrics").text


def test_a_disk_that_is_full_asks_mlflow_to_send_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = place.listener()

    def full(*_: Any) -> bool:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(listener.deliveries, "keep", full)
    with TestClient(create_app(listener)) as client:
        assert client.post("/mlflow", content=BODY, headers=signed(BODY)).status_code == 503


def test_it_polls_for_lost_events_at_its_start(place: Place) -> None:
    listener = place.listener(poll=60)
    place.registry.aliases["digits-a", "candidate"] = "1"  # and nobody delivers it
    with TestClient(create_app(listener)) as client:
        until(lambda: len(place.prefect.runs) == 1)
        until(
            lambda: (
                'deployment="promote/hone",noticed_by="poll"} 1.0' in client.get("/metrics").text
            )
        )
        assert client.get("/health").json()["status"] == "well"


def test_what_was_refused_is_counted_and_logged_once_a_minute(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = signed(BODY, secret="a secret of somebody else's")
    client.post("/mlflow", content=BODY, headers=wrong)
    text = client.get("/metrics").text
    assert 'hone_listener_requests_total{result="wrong signature"} 1.0' in text
    assert 'hone_listener_deliveries{state="waiting"} 0.0' in text
    client.post("/mlflow", content=BODY, headers=wrong)
    client.post("/mlflow", content=BODY, headers={**wrong, "Content-Type": "text/plain"})
    assert caplog.messages == [
        "refused a request: wrong signature", "refused a request: not application/json"
    ]  # fmt: skip


def test_ids_are_kept_longer_than_signatures_hold_and_then_removed(place: Place) -> None:
    deliveries = place.listener().deliveries
    assert deliveries.keep("one", "{}")
    deliveries.settle("one", "")
    deliveries.forget()
    assert not deliveries.keep("one", "{}")
    deliveries.forget(older_than=-1)
    assert deliveries.keep("one", "{}")
    deliveries.forget(older_than=-1)
    assert deliveries.counts()["waiting"] == 1, "what waits is never removed"


def test_a_delivery_that_a_dead_process_took_is_taken_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = place.listener().deliveries
    deliveries.keep("one", "{}")
    assert deliveries.take() is not None
    assert deliveries.take() is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 121)
    taken = deliveries.take()
    assert taken is not None
    assert taken.tries == 2
