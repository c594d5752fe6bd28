"""The metrics of runs beyond `HONE_HOME`: in a text file and a push gateway, if settings say so."""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...recipe.errors import InputError
from ...recipe.showable import showable, without_user

if TYPE_CHECKING:
    from .run_metrics import RunMetrics

TEXT_FILE = "HONE_METRICS_FILE"
PUSH = "HONE_METRICS_PUSH"
_JOB = "hone"
_SECONDS = 5.0  # that a push may take

log = logging.getLogger("hone")


def export(metrics: RunMetrics, home: Path) -> None:
    """Write and push the metrics where the environment says; trouble is only logged.

    Args:
        metrics: Of all runs.
        home: `HONE_HOME`, which tells the runs of one machine apart in the push gateway.
    """
    ways: dict[str, Callable[[Any, str], None]] = {
        TEXT_FILE: _write,
        PUSH: lambda registry, url: _push(registry, url, str(home)),
    }
    for name, way in ways.items():
        place = os.environ.get(name)
        if not place:
            continue
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(metrics)
        try:
            way(registry, place)
        except (OSError, ValueError, InputError) as error:
            said = showable(f"{name}={place}: {error}")
            log.warning("the run's metrics did not get out: %s", said)


def _write(registry: Any, place: str) -> None:
    """Write a file for the collector `textfile`, which reads those that end in `.prom`.

    Raises:
        InputError: It would never be read.
        OSError: It can't be written.
    """
    from prometheus_client import write_to_textfile

    if not place.endswith(".prom"):
        raise InputError("the node exporter reads only files whose names end in .prom")
    write_to_textfile(place, registry)
    os.chmod(place, 0o644)  # the node exporter is another user; a run's files are private else


def _push(registry: Any, url: str, home: str) -> None:
    """Replace what the push gateway has of this machine and `HONE_HOME`.

    Raises:
        OSError: It can't be reached, or refuses.
    """
    from prometheus_client import push_to_gateway
    from prometheus_client.exposition import basic_auth_handler, default_handler

    address, user = without_user(url)
    handler: Callable[..., Callable[[], None]] = default_handler
    if user is not None:
        handler = functools.partial(basic_auth_handler, username=user[0], password=user[1])
    group = {"instance": socket.gethostname(), "home": home}
    push_to_gateway(
        address, job=_JOB, registry=registry, grouping_key=group, timeout=_SECONDS, handler=handler
    )
