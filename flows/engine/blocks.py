"""The Prefect block of a team's servers, and how a flow run uses it.

A worker whose environment has `HONE_SERVERS_BLOCK=NAME` loads `hone-servers/NAME` at the start of
each flow run. It can't be chosen by a parameter: whoever may start a run must not choose what the
run may reach.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from ...recipe.errors import InputError
from ...recipe.gates import Gate
from ...recipe.showable import remember
from .settings import Settings

VARIABLE = "HONE_SERVERS_BLOCK"
_SITE = "https://github.com/prefect-hone/prefect-hone/blob/main/docs"
#: Variables that clients of object stores read; others could change which code runs.
_CREDENTIAL = re.compile(r"^(AWS|AZURE|GOOGLE|GCS|GCP|OSS|MLFLOW_S3|FSSPEC)_[A-Z0-9_]+$")


class HoneServers(Block):
    """Where a team's MLflow, Ray and artifact store are, and what recipes may reach there.

    Example:
        Load it, and use it in this process:

        ```python
        from prefect_hone import HoneServers

        servers = HoneServers.load("BLOCK_NAME")
        servers.apply()
        ```
    """

    _block_type_name = "Hone Servers"
    _block_type_slug = "hone-servers"
    _description = (
        "A team's MLflow server, Ray cluster and artifact store, with their credentials, and what "
        "Hone's recipes may reach from a deployment."
    )
    _documentation_url: ClassVar[Any] = f"{_SITE}/servers.md"
    _logo_url: ClassVar[Any] = f"{_SITE.replace('/blob/', '/raw/')}/logo.png"

    mlflow_tracking_uri: str | None = Field(
        None, title="MLflow", description="MLflow server, http(s)://HOST:PORT."
    )
    mlflow_username: str | None = Field(
        None, title="MLflow user", description="User of an MLflow server with authentication."
    )
    mlflow_password: SecretStr | None = Field(
        None, title="MLflow password", description="Password of the MLflow user."
    )
    mlflow_token: SecretStr | None = Field(
        None, title="MLflow token", description="Bearer token of MLflow, instead of a user."
    )
    ray_address: str | None = Field(
        None, title="Ray", description="Ray cluster, HOST:PORT or ray://HOST:PORT."
    )
    ray_token: SecretStr | None = Field(
        None, title="Ray token", description="Token of a Ray cluster that requires one."
    )
    ray_runtime: dict[str, Any] = Field(
        default={},
        title="Ray runtime",
        description="Runtime environment of Ray's workers, as JSON; never with secrets, because "
        "Ray shows it.",
    )
    store: str | None = Field(
        None, title="Store", description="Artifact store, any fsspec URL, such as s3://BUCKET/hone."
    )
    store_key: SecretStr | None = Field(
        None, title="Store key", description="Key that signs the records of a shared store."
    )
    store_credentials: dict[str, SecretStr] = Field(
        default={},
        title="Store credentials",
        description="Environment variables of the store's client, such as AWS_ACCESS_KEY_ID.",
    )
    allowed_prefixes: list[str] = Field(
        default=[],
        title="Allowed packages",
        description="Packages and functions that recipes of deployments may name.",
    )
    allowed_paths: list[str] = Field(
        default=[],
        title="Allowed paths",
        description="Folders and URL prefixes that recipes of deployments may read.",
    )
    gates: list[dict[str, Any]] = Field(
        default=[],
        title="Gates",
        description="Gates of recipes that have none, as in a recipe: metric, at_most or at_least.",
    )
    measuring_limit: str | None = Field(
        None,
        title="Measuring limit",
        description="Global concurrency limit that a measurement takes; it must exist.",
    )

    @field_validator("store_credentials")
    @classmethod
    def _only_credentials(cls, given: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in given:
            if _CREDENTIAL.match(name) is None:
                raise ValueError(f"{name} is not a variable of an object store's client")
        return given

    @field_validator("gates")
    @classmethod
    def _only_gates(cls, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for gate in given:
            Gate.model_validate(gate)
        return given

    def variables(self) -> dict[str, str]:
        """The environment variables that Hone and its libraries read; secrets included."""
        values = {
            "MLFLOW_TRACKING_URI": self.mlflow_tracking_uri,
            "MLFLOW_TRACKING_USERNAME": self.mlflow_username,
            "MLFLOW_TRACKING_PASSWORD": _plain(self.mlflow_password),
            "MLFLOW_TRACKING_TOKEN": _plain(self.mlflow_token),
            "RAY_ADDRESS": self.ray_address,
            "RAY_AUTH_TOKEN": _plain(self.ray_token),
            "HONE_RAY_RUNTIME": json.dumps(self.ray_runtime) if self.ray_runtime else None,
            "HONE_STORE": self.store,
            "HONE_STORE_KEY": _plain(self.store_key),
            "HONE_ALLOWED_PREFIXES": ",".join(self.allowed_prefixes),
            "HONE_ALLOWED_PATHS": ",".join(self.allowed_paths),
            "HONE_GATES": json.dumps(self.gates) if self.gates else None,
            "HONE_MEASURING_LIMIT": self.measuring_limit,
            **{name: secret.get_secret_value() for name, secret in self.store_credentials.items()},
        }
        return {name: value for name, value in values.items() if value}

    def apply(self) -> None:
        """Set the environment variables that Hone reads, in this process; no text shows a secret.

        What the block leaves out stays as it is.
        """
        secrets = (
            self.mlflow_password, self.mlflow_token, self.ray_token, self.store_key,
            *self.store_credentials.values(),
        )  # fmt: skip
        remember(secret.get_secret_value() for secret in secrets if secret is not None)
        os.environ.update(self.variables())


def use_servers() -> None:
    """Apply the block that this process's environment names, if it names one.

    Raises:
        InputError: The Prefect server has no such block, or it can't be read.
    """
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        return
    try:
        block = HoneServers.load(name)
    except ValueError as error:
        missing = "Unable to find block document" in str(error)
        raise InputError(
            "the Prefect server has no such block of type hone-servers"
            if missing
            else "this block of type hone-servers has mistakes",
            where=f"{VARIABLE}={name}",
            do=f"create it under Blocks in Prefect's UI, or with `hone setup --block {name}`",
        ) from None  # the error may quote the block's values
    assert isinstance(block, HoneServers)  # noqa: S101 (narrows a type)
    block.apply()


def flow_settings() -> Settings:
    """The settings of a flow run, with the block that its worker names.

    Raises:
        InputError: There is no such block, or a variable has a mistake.
    """
    use_servers()
    return Settings.from_environment()


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
