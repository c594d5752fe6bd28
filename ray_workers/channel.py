"""How the events of running steps come back: one small actor that workers write to."""

from __future__ import annotations

import collections
from typing import Any

import ray

from .workspace import Event


class Channel:
    """Events by the step that they came from."""

    def __init__(self) -> None:
        self._events: dict[str, collections.deque[Event]] = collections.defaultdict(
            lambda: collections.deque(maxlen=100_000)
        )

    def put(self, key: str, event: Event) -> None:
        self._events[key].append(event)

    def drain(self, key: str) -> list[Event]:
        """All events of a step since the last call, in order."""
        queue = self._events[key]
        return [queue.popleft() for _ in range(len(queue))]


def open_channel() -> Any:
    return ray.remote(num_cpus=0)(Channel).remote()


def reporter(channel: Any, key: str) -> Any:
    """A function that sends an event and does not wait for it to arrive."""

    def report(event: Event) -> None:
        channel.put.remote(key, event)

    return report
