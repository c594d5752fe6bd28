"""A champion behind Ray Serve: every replica follows the alias by itself.

    pip install "ray[serve]==2.60.0" -r requirements-of-the-champion.txt
    MODEL=digits MLFLOW_TRACKING_URI=https://mlflow.example serve run ray_serve_app:app

Requests and answers are those of `asgi_app.py`. Replicas change over one by one, within `SECONDS`
of the alias; no replica is restarted, and no request is dropped. A replica whose first champion
does not load fails to start, with the reason in Serve's status. Champions of one model must share
an environment: where a new one needs another runtime, deploy the app again with its requirements in
`runtime_env`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from champion_switch import ChampionSwitch
from ray import serve
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request


@serve.deployment(num_replicas=int(os.environ.get("REPLICAS", "2")), max_ongoing_requests=32)
class Champion:
    """A replica."""

    def __init__(self, model: str, alias: str, seconds: float) -> None:
        self._switch = ChampionSwitch(model, alias, seconds).start()

    async def __call__(self, request: Request) -> dict[str, Any]:
        served = self._switch.served
        (spec,) = served.model.metadata.signature.inputs.inputs
        inputs = np.asarray((await request.json())["inputs"], dtype=spec.type)
        outputs = await run_in_threadpool(served.predict, inputs)
        return {"predictions": outputs.tolist(), "version": served.version}


app = Champion.bind(  # type: ignore[attr-defined]  # the decorator made a deployment of it
    os.environ.get("MODEL", "digits"),
    os.environ.get("ALIAS", "champion"),
    float(os.environ.get("SECONDS", "5")),
)
