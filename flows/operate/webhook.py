"""The web application of `hone listen`: takes MLflow's webhooks, tells its health and metrics.

What is cheap and needs no trust is checked first: method, path, content type, size. Only then is
the body read, its signature checked, and the delivery kept; the answer comes after that.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...recipe.errors import HoneError
from .listener import Listener
from .signature import Refused

log = logging.getLogger("hone.listen")

#: Path of the webhook.
PATH = "/mlflow"
#: Largest body (bytes). MLflow's largest event has 5 kB of description and its tags.
LARGEST_BODY = 1_000_000
_SECONDS_TO_READ = 10.0
#: A refusal is logged at most once in so long (s): anybody can send requests.
_BETWEEN_REFUSALS = 60.0


def create_app(listener: Listener) -> Starlette:
    """The ASGI application of a listener.

    Args:
        listener: Starts and ends with the application.
    """

    logged: dict[str, float] = {}

    def log_refusal(reason: str) -> None:
        now = time.monotonic()
        if now - logged.get(reason, -_BETWEEN_REFUSALS) >= _BETWEEN_REFUSALS:
            logged[reason] = now
            log.warning("refused a request: %s", reason)

    async def webhook(request: Request) -> Response:
        try:
            body = await _read(request)
            status, result = await run_in_threadpool(listener.take_in, request.headers, body)
        except Refused as refused:
            log_refusal(refused.reason)
            listener.metrics.requests.labels(refused.reason).inc()
            return JSONResponse({"refused": refused.reason}, refused.status)
        except HoneError as error:
            log.error("a delivery can't be kept: %s", error)
            listener.metrics.requests.labels("not kept").inc()
            return JSONResponse({"refused": "try again"}, 503)  # MLflow then does
        listener.metrics.requests.labels(result).inc()
        return JSONResponse({"status": result}, status)

    async def health(_: Request) -> Response:
        try:
            counts = await run_in_threadpool(listener.deliveries.counts)
        except HoneError as error:
            return JSONResponse({"status": "ill", "why": error.what}, 503)
        if not listener.is_well:
            return JSONResponse({"status": "ill", "why": "a thread ended"}, 503)
        return JSONResponse({"status": "well", "deliveries": counts})

    async def metrics(_: Request) -> Response:
        with contextlib.suppress(HoneError):
            for state, count in (await run_in_threadpool(listener.deliveries.counts)).items():
                listener.metrics.deliveries.labels(state).set(count)
        return Response(listener.metrics.text(), media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        listener.start()
        yield
        await run_in_threadpool(listener.close)

    return Starlette(
        routes=[
            Route(PATH, webhook, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


async def _read(request: Request) -> bytes:
    """The raw body of a request, as long as it may be.

    Raises:
        Refused: It is not JSON, too large, or does not come.
    """
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    charset = rest.strip().lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused(415, "not application/json")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "compressed")
    declared = request.headers.get("content-length")
    if declared is not None:
        if not declared.isdecimal():
            raise Refused(400, "no valid length")
        if len(declared) > 12 or int(declared) > LARGEST_BODY:
            raise Refused(413, "too large")
    body = bytearray()
    try:
        with anyio.fail_after(_SECONDS_TO_READ):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise Refused(413, "too large")
    except TimeoutError:
        raise Refused(408, "too slow") from None
    except ClientDisconnect:
        raise Refused(400, "ended early") from None
    return bytes(body)
