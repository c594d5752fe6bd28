"""Generate the secrets of compose.yaml or of Kubernetes, once: files that only you can read.

    python infra/make_secrets.py                # infra/secrets/, for compose.yaml
    python infra/make_secrets.py --kubernetes   # infra/kubernetes/secrets.yaml, for kubectl apply

What exists is never overwritten. It needs the standard library only.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def passwords() -> dict[str, str]:
    names = (
        "postgres", "prefect_database", "mlflow_database", "redis", "prefect", "mlflow_admin",
        "mlflow_hone", "mlflow_flask", "ray", "webhook",
    )  # fmt: skip
    found = {name: secrets.token_urlsafe(24) for name in names}
    # A Fernet key: MLflow keeps the secrets of its webhooks under it.
    found["webhook_key"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
    return found


def client(secret: dict[str, str]) -> dict[str, str]:
    """What workers, flow runs and the listener need."""
    return {
        "PREFECT_API_AUTH_STRING": f"hone:{secret['prefect']}",
        "MLFLOW_TRACKING_PASSWORD": secret["mlflow_hone"],
        "RAY_AUTH_TOKEN": secret["ray"],
    }


def mlflow_server(secret: dict[str, str]) -> dict[str, str]:
    return {
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret["mlflow_admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret["mlflow_flask"],
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secret["webhook_key"],
    }


def prefect_server(secret: dict[str, str], redis: str) -> dict[str, str]:
    url = f"redis://:{secret['redis']}@{redis}:6379"
    return {
        "PREFECT_SERVER_API_AUTH_STRING": f"hone:{secret['prefect']}",
        "PREFECT_REDIS_MESSAGING_URL": f"{url}/0",
        "PREFECT_SERVER_DOCKET_URL": f"{url}/1",
    }


def for_compose(secret: dict[str, str]) -> dict[str, str]:
    """Files by name."""
    redis = f'requirepass {secret["redis"]}\nbind 0.0.0.0\ndir /data\nappendonly yes\nsave ""\n'
    return {
        "postgres": secret["postgres"],
        "prefect_database": secret["prefect_database"],
        "mlflow_database": secret["mlflow_database"],
        "redis.conf": redis,
        "pgpass": "".join(
            f"postgres:5432:*:{role}:{secret[f'{role}_database']}\n"
            for role in ("prefect", "mlflow")
        ),
        "prefect_server.env": _lines(prefect_server(secret, "redis")),
        "mlflow_server.env": _lines(mlflow_server(secret)),
        "mlflow_admin.env": _lines(
            {"MLFLOW_TRACKING_PASSWORD": secret["mlflow_admin"],
             "HONE_USER_PASSWORD": secret["mlflow_hone"]}
        ),
        "ray.env": _lines({"RAY_AUTH_TOKEN": secret["ray"]}),
        "client.env": _lines(client(secret)),
        "listener.env": _lines({"HONE_WEBHOOK_SECRET": secret["webhook"]}),
    }  # fmt: skip


def for_kubernetes(secret: dict[str, str]) -> str:
    """A list of Secrets, as JSON, which is YAML."""
    database = f"prefect:{secret['prefect_database']}@postgres:5432/prefect"
    uri = f"postgresql+psycopg2://mlflow:{secret['mlflow_database']}@postgres:5432"
    auth = (
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = {uri}/mlflow_auth\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    found = {
        "hone-client": client(secret),
        "hone-listener": {"HONE_WEBHOOK_SECRET": secret["webhook"]},
        "hone-ray": {"auth_token": secret["ray"]},
        "hone-prefect-server": {
            **prefect_server(secret, "redis"),
            "connection-string": f"postgresql+asyncpg://{database}",
            "auth-string": f"hone:{secret['prefect']}",
            "redis-password": secret["redis"],
        },
        "hone-mlflow-server": {**mlflow_server(secret), "uri": f"{uri}/mlflow"},
        "hone-mlflow-auth": {"basic_auth.ini": auth},
        "hone-mlflow-admin": {
            "MLFLOW_TRACKING_PASSWORD": secret["mlflow_admin"],
            "HONE_USER_PASSWORD": secret["mlflow_hone"],
        },
        "hone-databases": {
            "postgres": secret["postgres"],
            "prefect_database": secret["prefect_database"],
            "mlflow_database": secret["mlflow_database"],
            "redis.conf": for_compose(secret)["redis.conf"],
        },
    }
    items = [
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
         "metadata": {"name": name, "namespace": "hone"}, "stringData": values}
        for name, values in found.items()
    ]  # fmt: skip
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def _lines(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


def main(arguments: list[str], folder: Path = HERE) -> None:
    secret = passwords()
    if arguments == ["--kubernetes"]:
        place = folder / "kubernetes" / "secrets.yaml"
        if place.exists():
            sys.exit(f"{place} exists, and is not overwritten")
        _write(place, for_kubernetes(secret))
    elif not arguments:
        place = folder / "secrets"
        if place.exists():
            sys.exit(f"{place} exists, and is not overwritten")
        place.mkdir(mode=0o700)
        for name, text in for_compose(secret).items():
            # Compose mounts a file as it is, and the containers run as other users: the folder
            # keeps everybody else of this machine out.
            _write(place / name, text, 0o644)
    else:
        sys.exit(str(__doc__))
    sys.stdout.write(f"wrote {place}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
