"""What the registry says about a model that MLflow has just downloaded from it.

This room does not import MLflow. But a registered model is opened by MLflow, which is therefore
loaded, and knows the registry.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from .manifest import DOWNLOADED

#: Tag of a version: the digest of all its files, taken when they were measured and logged.
DIGEST_TAG = "hone.digest"

log = logging.getLogger("hone")


def registered_digest(folder: Path) -> str | None:
    """The digest that the registry has for a downloaded version.

    One request, to a registry that has just answered. None if the model is not a version of a
    registry, if no registry is configured, or if it doesn't answer.

    Args:
        folder: The model's folder.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not (folder / DOWNLOADED).is_file():
        return None
    named = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    if not (mlflow.is_tracking_uri_set() or any(os.environ.get(name) for name in named)):
        return None  # MLflow would make an empty store in the current folder
    try:
        from_registry = mlflow.utils.yaml_utils.read_yaml(str(folder), DOWNLOADED)
        name, number = from_registry["model_name"], from_registry["model_version"]
        if name is None:  # a logged model, not a version
            return None
        version = mlflow.MlflowClient().get_model_version(str(name), str(number))
        digest = version.tags.get(DIGEST_TAG)
    except Exception as error:
        log.warning(
            "the registry does not answer (%s), so the model's files were only compared with the "
            "manifest beside them",
            type(error).__name__,
        )
        return None
    return None if digest is None else str(digest)
