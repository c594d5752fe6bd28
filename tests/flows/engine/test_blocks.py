"""The block of a team's servers: Prefect's own standard for blocks, and that it hides its secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_hone import HoneServers
from prefect_hone.flows.engine.blocks import VARIABLE, use_servers
from prefect_hone.flows.engine.request import open_request
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import HoneError, InputError
from pydantic import SecretStr, ValidationError

ROOT = Path(__file__).parents[3]
CANARIES = {
    name: f"canary{index}-7f3a9c2e41d85b60"
    for index, name in enumerate(("mlflow_password", "mlflow_token", "ray_token", "store_key"))
}
_GATE = {"metric": "quality.drop", "at_most": 0.02}


class TestStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, monkeypatch: pytest.MonkeyPatch) -> type[Block]:
        def fetched(url: str) -> object:
            """The file that the address leads to on the main branch."""
            start = "https://github.com/prefect-hone/prefect-hone/raw/main/"
            assert url.startswith(start)
            return (ROOT / url.removeprefix(start)).open("rb")

        monkeypatch.setattr("prefect.testing.standard_test_suites.blocks.urlopen", fetched)
        return HoneServers


def made() -> HoneServers:
    return HoneServers(
        mlflow_tracking_uri="http://mlflow:5000",
        mlflow_username="hone",
        ray_address="ray:6379",
        ray_runtime={"pip": ["my-models"]},
        store="memory://bucket/hone",
        store_credentials={"AWS_SECRET_ACCESS_KEY": "canary9-7f3a9c2e41d85b60"},
        allowed_prefixes=["my_models"],
        allowed_paths=["/recipes"],
        gates=[_GATE],
        measuring_limit="hone-measuring",
        **{name: SecretStr(value) for name, value in CANARIES.items()},
    )


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that a block sets are as they were, afterwards."""
    for name in made().variables():
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("own_environment")
def test_a_flow_run_uses_the_block_before_anything_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "team")
    monkeypatch.setattr(HoneServers, "load", lambda name: {"team": made()}[name])
    recipe, session = open_request("digits", ["gates=[]"])
    settings = Settings.from_environment()
    assert (settings.tracking, settings.ray_address) == ("http://mlflow:5000", "ray:6379")
    assert settings.store == "memory://bucket/hone"
    assert session.settings == settings
    assert session.cluster.address == "ray:6379"
    assert session.cluster.runtime == {"pip": ["my-models"]}
    assert session.allowed.prefixes == ("my_models",)
    assert session.access.paths == ("/recipes",)
    assert settings.measuring_limit == "hone-measuring"
    assert [gate.metric for gate in recipe.gates] == ["quality.drop"], "a recipe without gates"
    own, _ = open_request("digits", ["gates=[{metric: size.bytes, at_most: 1}]"])
    assert [gate.metric for gate in own.gates] == ["size.bytes"]
    for name, value in CANARIES.items():
        assert value in os.environ.values(), name


@pytest.mark.usefixtures("own_environment")
def test_its_secrets_are_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    block = made()
    block.apply()
    secrets = {*CANARIES.values(), "canary9-7f3a9c2e41d85b60"}
    error = HoneError(f"refused: {secrets}", where=str(block.variables()), do=" ".join(secrets))
    texts = [repr(block), str(block), json.dumps(block.model_dump(mode="json")), str(error),
             json.dumps(error.to_dict()), caplog.text]  # fmt: skip
    for text in texts:
        assert not [secret for secret in secrets if secret in text], text


def test_a_block_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> HoneServers:
        raise ValueError(f"Unable to find block document named {name} for block type hone-servers")

    monkeypatch.setenv(VARIABLE, "teem")
    monkeypatch.setattr(HoneServers, "load", load)
    with pytest.raises(InputError, match="no such block") as caught:
        use_servers()
    assert "HONE_SERVERS_BLOCK=teem" in str(caught.value)
    assert "hone setup --block teem" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"store_credentials": {"LD_PRELOAD": "/tmp/x.so"}}, "LD_PRELOAD is not a variable"),
        ({"gates": [{"metric": "quality.drop"}]}, "either at_most or at_least"),
        ({"gates": [{"metric": "qality", "at_most": 1}]}, "qality"),
    ],
)
def test_what_a_block_refuses(fields: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HoneServers(**fields)


@pytest.mark.parametrize("name", ["HONE_GATES", "HONE_RAY_RUNTIME"])
def test_a_variable_that_is_no_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "[{")
    with pytest.raises(InputError, match=f"{name}: this is no JSON"):
        Settings.from_environment()
