"""MLflow's global servers, which some of its functions use whatever a client was made for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ...runtimes.child_environment import empty

#: Where MLflow notes what was set, for child processes and for itself.
_NOTED = "MLFLOW_REGISTRY_URI"


@contextlib.contextmanager
def global_uris(uri: str) -> Iterator[None]:
    """A context in which MLflow's global tracking server and registry are one server.

    Afterwards they are what they were: a registry that stays set would answer for other servers.

    Args:
        uri: The tracking server, which is the registry too.
    """
    import mlflow

    tracking_before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry_before = os.environ.get(_NOTED)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking_before)  # None unsets it
        mlflow.set_registry_uri(registry_before or "")
        if not registry_before:
            empty(_NOTED)
