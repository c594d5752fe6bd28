"""What the registry holds now: models, versions, aliases and tags. It only reads.

An event of the registry says that something happened; what is so is read here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.library_messages import telling
from ...recipe.strict import Strict
from .sender import is_away
from .tracker import quiet_mlflow

T = TypeVar("T")

_PAGE = 200
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class VersionSeen(Strict):
    """A version as the registry has it.

    Attributes:
        version: Its number.
        created: When it was created (ms since 1970). A model that was deleted and created again
            counts its versions from 1 again; this tells them apart.
        tags: Its tags.
        aliases: The aliases that point to it.
    """

    version: str
    created: int
    tags: dict[str, str]
    aliases: tuple[str, ...] = ()


class RegistryView:
    """The model registry of an MLflow server or store.

    Args:
        uri: The server or store.
    """

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        self._uri = uri
        self._client: Any = None

    def models(self) -> list[str]:
        """Names of all registered models.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        return [str(model.name) for model in self._pages("search_registered_models")]

    def versions(self, model: str) -> list[VersionSeen]:
        """All versions of a model.

        Raises:
            ServerUnreachable: The server does not answer.
        """
        quoted = model.replace("'", "''")
        if quoted != model:
            return []  # MLflow's filters have no escape for it
        return [_seen(v) for v in self._pages("search_model_versions", f"name = '{model}'")]

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

    def _pages(self, search: str, text: str | None = None) -> list[Any]:
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._page(search, text, token)
            if page is None:
                return found
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _page(self, search: str, text: str | None, token: str | None) -> Any:
        return self._ask(
            lambda client: getattr(client, search)(
                filter_string=text, max_results=_PAGE, page_token=token
            )
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


def _seen(version: Any) -> VersionSeen:
    return VersionSeen(
        version=str(version.version),
        created=int(version.creation_timestamp),
        tags={str(key): str(value) for key, value in dict(version.tags).items()},
        aliases=tuple(str(alias) for alias in version.aliases or ()),
    )
