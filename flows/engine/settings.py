"""Locations of stores and servers: defaults under `HONE_HOME`, or a team's servers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ...recipe.errors import InputError, StoreError
from ...recipe.showable import showable, without_user

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Locations, read from the environment.

    Attributes:
        home: `HONE_HOME`, default `~/.hone`.
        store: `HONE_STORE`, any fsspec URL or an absolute path; default a folder of `home`.
        tracking: `MLFLOW_TRACKING_URI`; default an SQLite store in `home`.
        artifacts: Location of artifacts for an embedded MLflow store; None: the server decides.
        ray_address: `RAY_ADDRESS`; None, like `local`, starts a cluster on this machine.
        ray_runtime: `HONE_RAY_RUNTIME`, a JSON object: Ray's runtime environment on a cluster
            that is joined.
        gates: `HONE_GATES`, a JSON list: gates of a deployment's recipe that has none.
        measuring_limit: `HONE_MEASURING_LIMIT`: the global concurrency limit of Prefect that a
            measurement takes.
    """

    home: Path
    store: str
    tracking: str
    artifacts: str | None
    ray_address: str | None
    ray_runtime: dict[str, Any] = field(default_factory=dict)
    gates: tuple[dict[str, Any], ...] = ()
    measuring_limit: str | None = None

    @staticmethod
    def from_environment() -> Settings:
        """Read the environment.

        Raises:
            InputError: A variable does not have the JSON that it should have, or `HONE_STORE` is a
                file URL with a host.
            StoreError: There is neither `HONE_HOME` nor a home folder of this user.
        """
        try:
            home = Path(os.environ.get("HONE_HOME") or "~/.hone").expanduser().resolve()
        except RuntimeError:  # HOME is not set, and nobody has this user id
            raise StoreError(
                f"the user with the id {os.geteuid()} has no home folder",
                where="HOME",
                do="set HONE_HOME to a folder that you can write to",
            ) from None
        tracking = _without_user(os.environ.get("MLFLOW_TRACKING_URI"))
        ray_address = os.environ.get("RAY_ADDRESS")
        return Settings(
            home=home,
            store=_store(os.environ.get("HONE_STORE")) or str(home / "store"),
            tracking=tracking or f"sqlite:///{home / 'mlflow.db'}",
            artifacts=None if tracking else str(home / "mlartifacts"),
            ray_address=None if ray_address in ("", "local") else ray_address,
            ray_runtime=_json("HONE_RAY_RUNTIME", dict),
            gates=tuple(_json("HONE_GATES", list)),
            measuring_limit=os.environ.get("HONE_MEASURING_LIMIT") or None,
        )

    @property
    def cache(self) -> Path:
        """Local copies of artifacts of a remote store."""
        return self.home / "cache"

    @property
    def journals(self) -> Path:
        return self.home / "journal"

    @property
    def listener(self) -> Path:
        """What the listener and reconcile have seen of the registry."""
        return self.home / "listener"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def _store(given: str | None) -> str | None:
    """`HONE_STORE`, a local path made absolute: Ray's workers start in other folders.

    Raises:
        InputError: It is a file URL with a host (`file://tmp/store`): fsspec would take that for a
            folder of the current one.
    """
    if not given or "::" in given:
        return given or None
    scheme, separator, rest = given.partition(":")
    scheme = scheme.lower()
    if not separator or (scheme not in ("file", "local") and not rest.startswith("//")):
        return str(Path(given).expanduser().absolute())
    if scheme in ("file", "local"):
        if rest.startswith("//") and not rest.startswith(("///", "//localhost/")):
            raise InputError(
                "a file URL names a host before its path",
                where=f"HONE_STORE={showable(given)}",
                do=f"write three slashes ({scheme}:///PATH), or the path alone",
            )
        path = rest.removeprefix("//").removeprefix("localhost")
        return str(Path(path).expanduser().absolute())
    return given


def _without_user(tracking: str | None) -> str | None:
    """The URI of an MLflow server without a user and password in it.

    They go where MLflow looks for them, so that no page, log or link of MLflow's shows them. An SQL
    store keeps its own: only what opens it sees them.
    """
    if tracking is None or not tracking.startswith(("http://", "https://")):
        return tracking
    uri, user = without_user(tracking)
    if user is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = user
        os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def _json(name: str, kind: type[T]) -> T:
    """The JSON in a variable; empty if it is not set.

    Raises:
        InputError: It is something else.
    """
    text = os.environ.get(name)
    if not text:
        return kind()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        what = "object" if kind is dict else "list"
        raise InputError(f"this is no JSON {what}", where=name, do="correct or unset it")
    return value
