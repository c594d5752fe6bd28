"""Returns the events of running steps: one small actor that workers write to, and that knows which
data they can share.
"""

from __future__ import annotations

import collections
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .data.turns import Turns
from .events import Event


class Channel(Turns):
    """Events, grouped by step; and whose turn it is to call a data factory."""

    def __init__(self) -> None:
        super().__init__()
        self._events: dict[str, collections.deque[Event]] = collections.defaultdict(
            lambda: collections.deque(maxlen=100_000)
        )

    def keep(self, key: str, content: bytes | None) -> list[Any] | None:
        """Settle a turn; what is put by this actor outlives the step.

        Returns:
            A list with the reference.
        """
        kept = None if content is None else [ray.put(content)]
        self.settle(key, kept)
        return kept

    def put(self, key: str, event: Event) -> None:
        self._events[key].append(event)

    def drain(self, key: str) -> list[Event]:
        """All events of a step since the last call, in order."""
        queue = self._events[key]
        return [queue.popleft() for _ in range(len(queue))]


def open_channel() -> Any:
    return on_this_node(Channel).remote()


def on_this_node(actor: type) -> Any:
    """An actor class whose actors run on this process's node and reserve no core.

    Ray would place such an actor on any node, but it must survive the loss of all other nodes.
    """
    return ray.remote(num_cpus=0)(actor).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
    )


def reporter(channel: Any, key: str) -> Any:
    """A function that sends an event without waiting for it to arrive."""

    def report(event: Event) -> None:
        channel.put.remote(key, event)

    return report
