"""Create MLflow's user `hone`, which is no administrator. A second time it changes nothing."""

from __future__ import annotations

import os

from prefect_hone.flows.operate.stack.servers import create_mlflow_user

create_mlflow_user(
    os.environ["MLFLOW_TRACKING_URI"],
    os.environ["MLFLOW_TRACKING_PASSWORD"],
    "hone",
    os.environ["HONE_USER_PASSWORD"],
)
