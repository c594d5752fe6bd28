"""Registered models as Prefect assets: a task that moves an alias materializes the model.

Prefect sends `prefect.asset.materialization.succeeded` when such a task completes, and none for a
task whose state came from the cache; so these tasks are never cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from prefect.assets import Asset, AssetProperties, add_asset_metadata
from prefect.tasks import MaterializingTask

from ...recipe.showable import without_user

_TOOL = "hone"
_KEPT = re.compile(r"[^a-z0-9._-]")
_LONGEST_NAME = 200
#: Stands for the model until a task is called for one.
ANY_MODEL = "mlflow://registry/models"


def materializing(**options: Any) -> Callable[[Callable[..., Any]], MaterializingTask[..., Any]]:
    """A task that moves an alias of a model; `of_model` names the model.

    Args:
        options: Of the task.
    """

    def decorate(work: Callable[..., Any]) -> MaterializingTask[..., Any]:
        return MaterializingTask(work, assets=[ANY_MODEL], materialized_by=_TOOL, **options)

    return decorate


def of_model(task: MaterializingTask[..., Any], tracking: str, model: str) -> Callable[..., Any]:
    """The task, for one model."""
    return cast("Callable[..., Any]", task.with_options(assets=[model_asset(tracking, model)]))


def model_asset(tracking: str, model: str) -> Asset:
    """A registered model as an asset.

    Args:
        tracking: The registry.
        model: Name of the registered model.
    """
    server, _ = without_user(tracking)
    page = f"{server.rstrip('/')}/#/models/{model}" if server.startswith("http") else None
    properties = {"name": model, **({"url": page} if page is not None else {})}
    return Asset(key=asset_key(tracking, model), properties=AssetProperties(**properties))


def asset_key(tracking: str, model: str) -> str:
    """The key of a model's asset: a URI in lower case with few characters.

    A name that is changed by that gets a digest, so no two models have the same key.
    """
    server, _ = without_user(tracking)
    host = "local" if "://" not in server else urlsplit(server).netloc.lower() or "local"
    name = _KEPT.sub("-", model.lower())[:_LONGEST_NAME]
    if name != model:
        name += f"-{hashlib.sha256(model.encode()).hexdigest()[:12]}"
    return f"mlflow://{_KEPT.sub('-', host.replace(':', '-'))}/models/{name}"


def tell_version(tracking: str, model: str, metadata: dict[str, Any]) -> None:
    """Within a task that materializes a model: which version, and why."""
    with contextlib.suppress(RuntimeError, ValueError):  # called outside of such a task
        add_asset_metadata(asset_key(tracking, model), metadata)
