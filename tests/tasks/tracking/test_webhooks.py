"""What MLflow says about webhooks that it would never deliver to, and what Hone makes of it.

The refusals are MLflow's own, of its SQL store in this process.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.tracking.webhooks import Webhooks, explain

SECRET = "a secret of the tests, long enough"
EVENTS = ["model_version.created"]


@pytest.fixture
def webhooks(tmp_path: Path, databases: Path) -> Webhooks:
    shutil.copy(databases / "mlflow.db", tmp_path / "mlflow.db")
    return Webhooks(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("http://93.184.215.14/mlflow", "MLFLOW_WEBHOOK_ALLOWED_SCHEMES"),
        ("https://127.0.0.1/mlflow", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
        ("https://10.0.0.7/mlflow", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
        ("https://127.1/mlflow", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
        ("https://no-such-host.invalid/mlflow", "known where the MLflow server runs"),
    ],
)
def test_an_address_that_mlflow_never_delivers_to(
    url: str, variable: str, webhooks: Webhooks
) -> None:
    with pytest.raises(InputError) as refused:
        webhooks.register("hone", url, EVENTS, SECRET)
    assert variable in str(refused.value)
    assert SECRET not in str(refused.value)
    assert webhooks.all() == []


def test_registering_twice_makes_one(webhooks: Webhooks) -> None:
    made, is_new = webhooks.register("hone", "https://93.184.215.14/a", EVENTS, SECRET)
    assert is_new
    events = [*EVENTS, "model_version_alias.created"]
    again, is_new = webhooks.register("hone", "https://93.184.215.14/b", events, SECRET)
    assert (again, is_new) == (made, False)
    (webhook,) = webhooks.all()
    assert webhook.url.endswith("/b")
    assert sorted(webhook.events) == sorted(events)
    assert webhook.active


@pytest.mark.parametrize(
    ("text", "do"),
    [
        ("Webhook connection blocked: 10.0.0.7 is not a public IP address.", "ALLOW_PRIVATE_IPS"),
        ("Max retries exceeded (Caused by NewConnectionError: Connection refused)", "start `hone"),
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "certificate"),
    ],
)
def test_why_an_example_did_not_arrive(text: str, do: str) -> None:
    assert do in str(explain(text)[1])
