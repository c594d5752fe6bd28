"""What the registry holds now: models, versions, aliases and tags. It only reads.

An event of the registry says that something happened; what is so is read here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.library_messages import telling
from ...recipe.strict import Strict
from .away import is_away
from .ledger import all_versions, ledger_name
from .lookup import ABSENT
from .tracker import quiet_mlflow

T = TypeVar("T")

_PAGE = 200
#: A server with users says of what isn't there, and of what a user may not see, the same.
_ABSENT = (*ABSENT, "PERMISSION_DENIED")


class VersionSeen(Strict):
    """A version as the registry has it.

    Attributes:
        version: Its number.
        created: When it was created (ms since 1970). A model that was deleted and created again
            counts its versions from 1 again; this tells them apart.
        tags: Its tags.
    """

    version: str
    created: int
    tags: dict[str, str]


class RegistryView:
    """The model registry of an MLflow server or store.

    Args:
        uri: The server or store.
    """

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        self._uri = uri
        self._client: Any = None

    def models(self) -> dict[str, dict[str, str]]:
        """All registered models but ledgers: the version of each of their aliases.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        return {name: held for name, held in self._models().items() if not is_ledger(name)}

    def with_ledger(self) -> list[str]:
        """Names of the models that have a ledger.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        names = self._models()
        return sorted(name for name in names if ledger_name(name) in names)

    def versions(self, model: str) -> list[VersionSeen]:
        """All versions of a model.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        found = self._ask(lambda client: all_versions(client, model))
        return [_seen(version) for version in found or ()]

    def version(self, model: str, version: str) -> VersionSeen | None:
        """A version; None if there is none.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        found = self._ask(lambda client: client.get_model_version(model, version))
        return None if found is None else _seen(found)

    def alias(self, model: str, alias: str) -> VersionSeen | None:
        """The version that an alias points to; None if there is no such model or alias.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        found = self._ask(lambda client: client.get_model_version_by_alias(model, alias))
        return None if found is None else _seen(found)

    def _models(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        token: str | None = None
        while True:
            page = self._page(token)
            if page is None:
                return found
            for model in page:  # a version that is found by a search does not name its aliases
                aliases = dict(model.aliases or {})
                found[str(model.name)] = {str(a): str(v) for a, v in aliases.items()}
            token = page.token
            if not token:
                return found

    def _page(self, token: str | None) -> Any:
        return self._ask(
            lambda client: client.search_registered_models(max_results=_PAGE, page_token=token)
        )

    def _ask(self, question: Callable[[Any], T]) -> T | None:
        """An answer of the server; None if what was asked for isn't there."""
        import mlflow
        from mlflow.exceptions import MlflowException

        try:
            if self._client is None:
                self._client = mlflow.MlflowClient(self._uri, registry_uri=self._uri)
            return question(self._client)
        except Exception as error:
            if is_away(error):
                raise ServerUnreachable(
                    "MLflow does not answer", where=self._uri, do="see whether the server runs"
                ) from error
            if isinstance(error, MlflowException) and error.error_code in _ABSENT:
                return None
            raise HoneError(
                f"the model registry can't be read: {telling(error)[:300]}", where=self._uri
            ) from error


def is_ledger(model: str) -> bool:
    """Whether a registered model is the ledger of another one."""
    return model.endswith(ledger_name(""))


def _seen(version: Any) -> VersionSeen:
    return VersionSeen(
        version=str(version.version),
        created=int(version.creation_timestamp),
        tags={str(key): str(value) for key, value in dict(version.tags).items()},
    )
