"""Models in MLflow, as files."""

from __future__ import annotations

from pathlib import Path


def download(uri: str, tracking: str, folder: str) -> Path:
    """The files of a model.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN/NAME`.
        tracking: The tracking server, which is the registry too.
        folder: Where to write them.

    Raises:
        Exception: MLflow's own error.
    """
    import mlflow

    mlflow.set_registry_uri(tracking)
    return Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=folder, tracking_uri=tracking
        )
    )
