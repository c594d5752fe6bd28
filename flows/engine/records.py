"""Stored results of steps. `hone plan` reads them, so nothing heavy is imported."""

from __future__ import annotations

from ...ray_workers.dispatch import Done
from ...ray_workers.store.artifacts import Store
from ...tasks.steps import Call


def record_name(call: Call, key: str) -> str:
    """Path of a step's result in the store."""
    return f"steps/{call.step.name}/{key}.json"


def find_record(store: Store, call: Call, key: str) -> Done | None:
    """The stored result of a step, or None if none can be read."""
    said = store.read_record(record_name(call, key))
    if said is None:
        return None
    try:
        return Done.model_validate(said)
    except ValueError:
        return None
