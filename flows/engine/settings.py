"""Locations of stores and servers: defaults under `HONE_HOME`, or a team's servers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...recipe.showable import without_user


@dataclass(frozen=True)
class Settings:
    """Locations, read from the environment.

    Attributes:
        home: `HONE_HOME`, default `~/.hone`.
        store: `HONE_STORE`, any fsspec URL; default a folder of `home`.
        tracking: `MLFLOW_TRACKING_URI`; default an SQLite store in `home`.
        artifacts: Location of artifacts for an embedded MLflow store; None: the server decides.
        ray_address: `RAY_ADDRESS`; None, like `local`, starts a cluster on this machine.
    """

    home: Path
    store: str
    tracking: str
    artifacts: str | None
    ray_address: str | None

    @staticmethod
    def from_environment() -> Settings:
        home = Path(os.environ.get("HONE_HOME") or "~/.hone").expanduser().resolve()
        tracking = _without_user(os.environ.get("MLFLOW_TRACKING_URI"))
        ray_address = os.environ.get("RAY_ADDRESS")
        return Settings(
            home=home,
            store=os.environ.get("HONE_STORE") or str(home / "store"),
            tracking=tracking or f"sqlite:///{home / 'mlflow.db'}",
            artifacts=None if tracking else str(home / "mlartifacts"),
            ray_address=None if ray_address in ("", "local") else ray_address,
        )

    @property
    def cache(self) -> Path:
        """Local copies of artifacts of a remote store."""
        return self.home / "cache"

    @property
    def journals(self) -> Path:
        return self.home / "journal"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


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
