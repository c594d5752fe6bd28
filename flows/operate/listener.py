"""The listener: keeps deliveries, and works through them in a thread of its own.

A second thread polls the registry, because MLflow gives up on an event after a few tries.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.library_messages import telling
from .deliveries import Deliveries, Delivery
from .listener_metrics import ListenerMetrics
from .listener_state import ListenerState
from .rules import Kind
from .signature import Refused, check_signature
from .watching import Hint, Report, Watcher

log = logging.getLogger("hone.listen")

#: MLflow's events that rules can wait for. Deleted aliases and tags start nothing, but make the
#: next one that is set a change.
EVENTS = {
    ("model_version", "created"): Kind.VERSION,
    ("model_version_alias", "created"): Kind.ALIAS,
    ("model_version_alias", "deleted"): Kind.ALIAS,
    ("model_version_tag", "set"): Kind.TAG,
    ("model_version_tag", "deleted"): Kind.TAG,
}
_IDLE = 1.0  # s between looks for deliveries that are due again
_MOST_TRIES = 5  # of a delivery that fails for an unknown reason


@dataclass
class Listener:
    """What the web application hands its requests to.

    Attributes:
        watcher: Knows what to start.
        state: Where deliveries are kept.
        secrets: Of the webhooks; two while one is being replaced.
        poll_seconds: Time between looks for lost events; 0: never.
        metrics: What it counts.
        clock: Seconds since 1970.
    """

    watcher: Watcher
    state: ListenerState
    secrets: Sequence[str]
    poll_seconds: float = 300.0
    metrics: ListenerMetrics = field(default_factory=ListenerMetrics)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.deliveries = Deliveries(self.state)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work."""
        jobs = [self._work, *([self._poll] if self.poll_seconds else [])]
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def close(self, seconds: float = 5) -> None:
        """Stop; what is not done is done when a listener starts again."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(seconds)

    def take_in(self, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Check a request and keep it; returns the HTTP status and a word for what came of it.

        Raises:
            Refused: It is not a delivery of MLflow.
            StoreError: It can't be kept.
        """
        delivery = check_signature(headers, body, self.secrets, self.clock())
        hint = parse_event(body)
        if hint is None or not self.watcher.wants(hint):
            return 200, "ignored"
        if not self.deliveries.keep(delivery, body.decode()):
            return 200, "repeated"
        self._wake.set()
        return 202, "accepted"

    @property
    def is_well(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                delivery = self.deliveries.take()
                if delivery is not None:
                    self._settle(delivery)
                    continue
            except Exception as error:  # the state file: it may be writable again
                log.error("the listener can't go on: %s", telling(error))
                self._stop.wait(_IDLE)
            self._wake.wait(_IDLE)
            self._wake.clear()

    def _settle(self, delivery: Delivery) -> None:
        try:
            hint = parse_event(delivery.body.encode())
            report = self.watcher.look(hint) if hint is not None else Report()
        except ServerUnreachable as error:
            log.warning("delivery %s waits: %s", delivery.id, error)
            self.deliveries.later(delivery, str(error))
            return
        except Exception as error:
            log.error("delivery %s: %s", delivery.id, telling(error))
            if delivery.tries < _MOST_TRIES:
                self.deliveries.later(delivery, telling(error))
            else:
                self.deliveries.settle(delivery.id, telling(error), failed=True)
                self.metrics.problems.labels("event").inc()
            return
        self._count(report, "event")
        note = "; ".join(report.problems) or f"started {len(report.started)}"
        self.deliveries.settle(delivery.id, note, failed=bool(report.problems))

    def _poll(self) -> None:
        while not self._stop.is_set():
            try:
                self._count(self.watcher.poll(), "poll")
                self.metrics.last_poll.set(self.clock())
                self.deliveries.forget()
            except HoneError as error:
                log.warning("the registry can't be looked through now: %s", error)
            except Exception as error:
                log.error("the registry can't be looked through: %s", telling(error))
            self._stop.wait(self.poll_seconds)

    def _count(self, report: Report, noticed_by: str) -> None:
        for started in report.started:
            self.metrics.started.labels(started.deployment, noticed_by).inc()
        self.metrics.problems.labels(noticed_by).inc(len(report.problems))


def parse_event(body: bytes) -> Hint | None:
    """What an event is about; None if it is none that a rule could wait for.

    Raises:
        Refused: The body is not an event.
    """
    try:
        event = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise Refused(400, "no JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise Refused(400, "no event")
    kind = EVENTS.get((str(event.get("entity")), str(event.get("action"))))
    if kind is None:
        return None
    data, model = event["data"], _text(event["data"], "name")
    if kind is Kind.ALIAS:
        return Hint(kind, model, name=_text(data, "alias"))
    name = _text(data, "key") if kind is Kind.TAG else ""
    return Hint(kind, model, _text(data, "version"), name)


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"an event without {name}")
    return value
