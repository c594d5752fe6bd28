"""A champion behind `mlflow models serve`, each version in a process and an environment of its own.

    MLFLOW_TRACKING_URI=https://mlflow.example python mlflow_serve.py digits --port 8080

A small proxy passes each request to the server of the present champion, byte for byte; the header
`X-Champion-Version` of the answer says which version that was. A new champion's server is started
beside the old one, and takes over when it answers `/ping`: it has then compared its files and run
its proof. The server of a version that is no longer needed ends when its last request has.

MLflow makes the environments (`--env-manager uv`, `virtualenv`, `conda`), so a new champion may
need another runtime than the old one. Needs mlflow, httpx, and what the environment manager needs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from champion_switch import ChampionSwitch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

#: To create an environment and load the model (s).
PATIENCE = 900.0


class ModelServer:
    """`mlflow models serve` of a version. It ends when nobody refers to this object any more.

    Args:
        name: The registered model.
        version: Its version.
        env_manager: As MLflow takes it.

    Raises:
        RuntimeError: The server ended, as it does if the model refuses to load.
        TimeoutError: It did not answer in time.
    """

    def __init__(self, name: str, version: str, env_manager: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
            [sys.executable, str(Path(__file__).with_name("ends_with_its_starter.py")),
             sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}/{version}",
             "--env-manager", env_manager, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.PIPE,  # closed with this process, whatever ends it
            start_new_session=True,  # Ctrl-C is for this process, which ends the server itself
            env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, process)
        self._url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if process.poll() is not None:
                raise RuntimeError(f"its server ended with code {process.returncode}")
            if time.monotonic() > deadline:
                self._end()
                raise TimeoutError(f"its server did not answer within {PATIENCE:.0f} s")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self._url}/ping", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    async def forward(self, client: httpx.AsyncClient, request: Request) -> httpx.Response:
        """Pass a request on."""
        return await client.post(
            f"{self._url}/invocations",
            content=await request.body(),
            headers={"Content-Type": request.headers.get("content-type", "application/json")},
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def application(switch: ChampionSwitch) -> Starlette:
    """The proxy, which follows the champion while it runs."""
    client = httpx.AsyncClient(timeout=300)

    async def invocations(request: Request) -> Response:
        served = switch.served  # and so its server stays until this request has ended
        said = await served.model.forward(client, request)
        return Response(
            said.content,
            said.status_code,
            {"X-Champion-Version": served.version},
            said.headers.get("content-type"),
        )

    async def ping(_: Request) -> Response:
        return JSONResponse({"version": switch.served.version})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(switch.start)
        yield
        await run_in_threadpool(switch.close)
        await client.aclose()

    return Starlette(
        routes=[Route("/invocations", invocations, methods=["POST"]), Route("/ping", ping)],
        lifespan=lifespan,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="the registered model")
    parser.add_argument("--alias", default="champion")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--seconds", type=float, default=5.0, help="between looks at the registry")
    parser.add_argument("--env-manager", default="uv")
    given = parser.parse_args()

    def load(name: str, version: str) -> Any:
        return ModelServer(name, version, given.env_manager)

    switch = ChampionSwitch(given.model, given.alias, given.seconds, load=load)
    uvicorn.run(application(switch), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
