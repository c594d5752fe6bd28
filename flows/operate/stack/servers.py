"""What the stack asks of its servers while they start."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

from ....recipe.errors import HoneError
from .folder import StackFolder, write_private


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return int(answer.status) == 200
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False


def auth_settings(folder: StackFolder, database: str) -> Path:
    """The settings file of MLflow's authentication; it has no password."""
    path = folder.root / "mlflow-auth.ini"
    write_private(
        path,
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {database}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )
    return path


def create_mlflow_user(url: str, admin: str, name: str, password: str) -> None:
    """Create a user of MLflow that may create experiments and models, and is no administrator.

    Args:
        url: The server.
        admin: The administrator's password.
        name: The new user's.
        password: The new user's.

    Raises:
        HoneError: MLflow refuses.
    """
    header = base64.b64encode(f"admin:{admin}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310
        f"{url}/api/2.0/mlflow/users/create",
        json.dumps({"username": name, "password": password}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {header}"},
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        if "RESOURCE_ALREADY_EXISTS" not in said:
            raise HoneError(f"MLflow did not create a user: {said[:300]}", where=url) from None
    except OSError as error:
        raise HoneError(f"MLflow did not create a user: {error}", where=url) from None
