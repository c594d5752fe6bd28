"""What the registry has under a name, a number or an alias, and what it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...recipe.errors import InputError

T = TypeVar("T")

#: How MLflow says that something isn't there.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def found_or_none(question: Callable[[], T], client: Any = None, model: str = "") -> T | None:
    """An answer of the registry; None if what was asked for isn't there.

    A server with users refuses a question about a model that doesn't exist. Then the list of models
    tells: it has all that this account may read.

    Args:
        question: The question.
        client: MLflow's client, if the question is about a registered model.
        model: That model.

    Raises:
        Exception: MLflow's own error, for any other reason.
    """
    from mlflow.exceptions import MlflowException

    try:
        return question()
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        refused = error.error_code == "PERMISSION_DENIED" and client is not None
        if refused and not _is_listed(client, model):
            return None
        raise


def _is_listed(client: Any, model: str) -> bool:
    quote = '"' if "'" in model else "'"
    named = client.search_registered_models(f"name = {quote}{model}{quote}", max_results=1)
    return bool(named)


def named_version(client: Any, model: str, which: str) -> Any:
    """A version of a model.

    Args:
        client: MLflow's client.
        model: The registered model.
        which: A number, or an alias (with or without an @ before it).

    Raises:
        Exception: MLflow's own error.
    """
    if which.isdigit():
        return client.get_model_version(model, which)
    return client.get_model_version_by_alias(model, which.removeprefix("@"))


def version_of(client: Any, model: str, alias: str) -> Any:
    """The version that has an alias; None if none has."""
    return found_or_none(lambda: client.get_model_version_by_alias(model, alias), client, model)


def number_of(version: Any) -> str | None:
    """The number of a version, as the ledger has it; None if there is no version."""
    return None if version is None else str(version.version)


def require_model(client: Any, tracking: str, name: str) -> None:
    """Make sure that the registry has a model.

    Raises:
        InputError: It has none of this name.
    """
    if found_or_none(lambda: client.get_registered_model(name), client, name) is None:
        raise InputError(f"the registry has no model {name}", where=tracking)


def existing_version(client: Any, name: str, version: str) -> Any:
    """A version of a model.

    Raises:
        InputError: There is none of this number.
    """
    if not (version.isascii() and version.isdigit()):
        raise InputError(f"'{version}' is no version", where=name, do="give its number")
    found = found_or_none(lambda: client.get_model_version(name, version), client, name)
    if found is None:
        numbers = sorted(int(v.version) for v in _versions(client, name))
        if numbers and int(version) <= numbers[-1]:
            raise InputError(f"version {version} of {name} is not there any more")
        known = f": the registry has {_in_words(numbers)}" if numbers else ""
        raise InputError(f"version {version} of {name} is not there{known}")
    return found


def _versions(client: Any, name: str) -> list[Any]:
    """Versions of a model; none if this account may not list them."""
    from mlflow.exceptions import MlflowException

    quote = '"' if "'" in name else "'"
    try:
        return list(client.search_model_versions(f"name = {quote}{name}{quote}"))
    except MlflowException:
        return []


def _in_words(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) < 6 else f"{numbers[0]} to {numbers[-1]}"
