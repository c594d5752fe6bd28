"""A Prefect block with the addresses of a team's servers."""

from __future__ import annotations

import os

from prefect.blocks.core import Block
from pydantic import Field


class HoneServers(Block):
    """Where a team's MLflow, Ray and artifact store are.

    Example:
        >>> HoneServers.load("team").apply()  # doctest: +SKIP
    """

    _block_type_name = "Hone Servers"
    _block_type_slug = "hone-servers"
    _description = (
        "Addresses of the MLflow server, the Ray cluster and the artifact store that Hone uses."
    )

    mlflow_tracking_uri: str | None = Field(None, description="MLflow server, http(s)://HOST:PORT.")
    ray_address: str | None = Field(None, description="Ray cluster, HOST:PORT or ray://HOST:PORT.")
    store: str | None = Field(None, description="Artifact store, any fsspec URL.")
    allowed_prefixes: list[str] = Field(
        default=[],
        description="Packages, or single functions (module:function), that recipes may name.",
    )
    allowed_paths: list[str] = Field(
        default=[],
        description="Folders and URL prefixes that recipes from the UI and from events may read.",
    )

    def apply(self) -> None:
        """Set the environment variables that Hone reads, in this process."""
        values = {
            "MLFLOW_TRACKING_URI": self.mlflow_tracking_uri,
            "RAY_ADDRESS": self.ray_address,
            "HONE_STORE": self.store,
            "HONE_ALLOWED_PREFIXES": ",".join(self.allowed_prefixes) or None,
            "HONE_ALLOWED_PATHS": ",".join(self.allowed_paths) or None,
        }
        os.environ.update({name: value for name, value in values.items() if value})
