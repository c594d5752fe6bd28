"""What the listener counts, for Prometheus; and what the runs with its `HONE_HOME` counted."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from ..engine.run_metrics import RunMetrics


class ListenerMetrics:
    """Counters of one listener process, and gauges of the state that its processes share.

    Args:
        home: `HONE_HOME`, whose runs are shown, too; None: none are.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._registry = CollectorRegistry()
        if home is not None:
            self._registry.register(RunMetrics(home))
        self.requests = Counter(
            "hone_listener_requests",
            "Requests to the webhook, by what came of them.",
            ["result"],
            registry=self._registry,
        )
        self.started = Counter(
            "hone_listener_started",
            "Flow runs started, by deployment and by who noticed the change.",
            ["deployment", "noticed_by"],
            registry=self._registry,
        )
        self.problems = Counter(
            "hone_listener_problems",
            "Changes for which nothing could be started, by who noticed them.",
            ["noticed_by"],
            registry=self._registry,
        )
        self.deliveries = Gauge(
            "hone_listener_deliveries",
            "Deliveries that are kept, by state.",
            ["state"],
            registry=self._registry,
        )
        self.last_poll = Gauge(
            "hone_listener_last_poll_timestamp_seconds",
            "When the registry was last looked through for lost events.",
            registry=self._registry,
        )

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
