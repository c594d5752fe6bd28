"""Telemetry of the libraries that Hone uses is off.

ONNX Runtime from 1.29 (Microsoft) and NNCF (Google Analytics) send events over the network unless a
variable says otherwise before they are imported, and MLflow, Ray, Prefect and Hugging Face's hub do
so where they are used. A pipeline that trains on a company's data must not reach for hosts that
nobody named, and each try would wait for a name server where there is no network.
"""

from __future__ import annotations

import os

#: What each library reads. Somebody who wants its telemetry sets the variable before.
OFF = {
    # github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
    "ORT_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",  # nncf/telemetry/wrapper.py: of all its uses the only one
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # consoledonottrack.com: MLflow, Prefect's client and others
}


def turn_off() -> None:
    """Set the variables that are not set, for this process and those that it starts."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
