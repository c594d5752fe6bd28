"""Reading the registry: what isn't there, what may not be seen, and a server that is away."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from prefect_hone.recipe.errors import HoneError, ServerUnreachable
from prefect_hone.tasks.tracking.registry_view import RegistryView


class Client:
    """Stands for MLflow's: every question fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise self.error

        return fail


def view(error: Exception) -> RegistryView:
    made = RegistryView("http://127.0.0.1:9")
    made._client = Client(error)
    return made


@pytest.mark.parametrize("code", [codes.RESOURCE_DOES_NOT_EXIST, codes.PERMISSION_DENIED])
def test_what_is_not_there_or_may_not_be_seen_is_nothing(code: int) -> None:
    refused = view(MlflowException("no", error_code=code))
    assert refused.version("wine", "1") is None
    assert refused.alias("wine", "champion") is None
    assert refused.versions("wine") == []


def test_a_server_that_is_away_and_one_that_fails() -> None:
    with pytest.raises(ServerUnreachable, match="MLflow does not answer"):
        view(ConnectionError("refused")).models()
    with pytest.raises(HoneError, match="can't be read: wrong"):
        view(MlflowException("wrong", error_code=codes.UNAUTHENTICATED)).models()
