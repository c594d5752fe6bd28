"""What is not there, on a server that refuses to talk of what is not there."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.tracking.lookup import existing_version, require_model, version_of


class WithUsers:
    """Stands for a client of an MLflow server with users: it refuses every question.

    Attributes:
        listed: The models that the account may read.
    """

    def __init__(self, *listed: str) -> None:
        self.listed = listed

    def _refuse(self, *_: object) -> None:
        raise MlflowException("Permission denied", codes.PERMISSION_DENIED)

    get_model_version_by_alias = get_registered_model = get_model_version = _refuse
    search_model_versions = _refuse

    def search_registered_models(self, query: str, max_results: int) -> list[str]:
        return [
            model for model in self.listed if query in (f"name = '{model}'", f'name = "{model}"')
        ]


def test_a_model_that_is_not_listed_is_not_there() -> None:
    client = WithUsers("beer")
    assert version_of(client, "wine", "champion") is None
    with pytest.raises(InputError, match="the registry has no model wine"):
        require_model(client, "http://mlflow", "wine")
    with pytest.raises(InputError, match="version 1 of wine is not there"):
        existing_version(client, "wine", "1")


@pytest.mark.parametrize("model", ["wine", "o'wine"])
def test_a_refusal_about_one_that_is_listed_is_a_refusal(model: str) -> None:
    with pytest.raises(MlflowException, match="Permission denied"):
        version_of(WithUsers(model), model, "champion")
