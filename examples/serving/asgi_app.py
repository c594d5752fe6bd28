"""A champion behind plain ASGI, with the requests and answers of `mlflow models serve`.

    MLFLOW_TRACKING_URI=https://mlflow.example python asgi_app.py digits --port 8080

`POST /invocations` takes `{"inputs": ...}` and answers `{"predictions": ..., "version": "7"}`.
`GET /ping` says which version answers. `POST /changed`, for a webhook or a script, makes it ask the
registry at once. Starlette and uvicorn come with MLflow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import uvicorn
from champion_switch import ChampionSwitch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def application(switch: ChampionSwitch) -> Starlette:
    """The app, which follows the champion while it runs."""

    async def invocations(request: Request) -> Response:
        served = switch.served
        try:
            inputs = _inputs(await request.json(), served.model)
            outputs = await run_in_threadpool(served.predict, inputs)
        except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
            return JSONResponse({"error": str(error), "version": served.version}, 400)
        return JSONResponse({"predictions": outputs.tolist(), "version": served.version})

    async def ping(_: Request) -> Response:
        return JSONResponse({"version": switch.served.version})

    async def changed(_: Request) -> Response:
        switch.poke()
        return Response(status_code=202)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(switch.start)
        yield
        await run_in_threadpool(switch.close)

    return Starlette(
        routes=[
            Route("/invocations", invocations, methods=["POST"]),
            Route("/ping", ping),
            Route("/changed", changed, methods=["POST"]),
        ],
        lifespan=lifespan,
    )


def _inputs(body: Any, model: Any) -> Any:
    """Arrays of the signature's types: JSON has only one kind of number."""
    given, schema = body["inputs"], model.metadata.signature.inputs
    types = {spec.name: spec.type for spec in schema}
    if not schema.has_input_names():
        return np.asarray(given, dtype=types[None])
    return {name: np.asarray(given[name], dtype=dtype) for name, dtype in types.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="the registered model")
    parser.add_argument("--alias", default="champion")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--seconds", type=float, default=5.0, help="between looks at the registry")
    given = parser.parse_args()
    switch = ChampionSwitch(given.model, given.alias, given.seconds)
    uvicorn.run(application(switch), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
