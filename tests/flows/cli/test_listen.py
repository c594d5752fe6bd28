"""`hone listen` refuses what can't work with a sentence, before it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_registry import RULES
from prefect_hone.flows.cli import listen
from prefect_hone.flows.cli.listen import ListenOptions, listen_command, read_secrets
from prefect_hone.flows.operate.registration import events_of, webhook_url
from prefect_hone.flows.operate.rules import parse_rules
from prefect_hone.recipe.errors import InputError
from rich.console import Console

SECRET = "a secret of the tests, long enough"


def options(**more: Any) -> ListenOptions:
    given: dict[str, Any] = {
        "rules": None, "host": "127.0.0.1", "port": 0, "secret_env": [], "secret_block": [],
        "poll": 0, "url": None, "register": False,
    }  # fmt: skip
    return ListenOptions(**{**given, **more})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "server_for", lambda _: "http://127.0.0.1:9/api")
    monkeypatch.setattr(listen.PrefectStarter, "check", lambda *_: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("HONE_WEBHOOK_SECRET", SECRET)
    monkeypatch.delenv("HONE_RULES", raising=False)


@pytest.mark.usefixtures("served")
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    with pytest.raises(InputError, match="the rules can't be read: No such file"):
        listen_command(console, options(rules=str(tmp_path / "none.yaml")))
    with pytest.raises(InputError, match="MLflow needs the address to deliver to"):
        listen_command(console, options(register=True))
    with pytest.raises(InputError, match="an address is for --register"):
        listen_command(console, options(url="https://hone.team"))
    monkeypatch.delenv("HONE_WEBHOOK_SECRET")
    with pytest.raises(InputError, match="HONE_WEBHOOK_SECRET has no secret"):
        listen_command(console, options())
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(
        InputError, match="events come from an MLflow server, and none is configured"
    ):
        listen_command(console, options())


def test_secrets_are_long_and_can_be_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW", f"{SECRET}, new")
    monkeypatch.setenv("OLD", SECRET)
    assert read_secrets(["NEW", "OLD"], []) == [f"{SECRET}, new", SECRET]
    monkeypatch.setenv("OLD", "short")
    with pytest.raises(InputError, match="can be guessed") as refused:
        read_secrets(["OLD"], [])
    assert "short" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://hone.team", "https://hone.team/mlflow"),
        ("https://hone.team:8642/", "https://hone.team:8642/mlflow"),
        ("https://hone.team/events/of/mlflow", "https://hone.team/events/of/mlflow"),
    ],
)
def test_the_address_for_mlflow(given: str, url: str) -> None:
    assert webhook_url(given) == url


@pytest.mark.parametrize(
    "given", ["hone.team", "ftp://hone.team", "https://", "https://ann:word@hone.team", "http://["]
)
def test_an_address_that_is_none(given: str) -> None:
    with pytest.raises(InputError, match="not an address that MLflow can deliver to") as refused:
        webhook_url(given)
    assert "ann:word" not in str(refused.value)


def test_only_events_that_a_rule_waits_for_are_asked_of_mlflow() -> None:
    _, version, tag = parse_rules(RULES, "rules.yaml")
    assert events_of([version]) == ["model_version.created"]
    assert events_of([version, tag]) == [
        "model_version.created", "model_version_tag.set", "model_version_tag.deleted"
    ]  # fmt: skip


def test_a_block_that_holds_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.system import Secret

    monkeypatch.setattr(Secret, "load", lambda name: Secret(value={"name": name}))
    with pytest.raises(InputError, match="the Secret block 'hook' holds a dict, and no text"):
        read_secrets([], ["hook"])
    monkeypatch.setattr(Secret, "load", lambda name: Secret(value=f"a long secret of {name}"))
    assert read_secrets([], ["hook"]) == ["a long secret of hook"]
