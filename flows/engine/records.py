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
        done = Done.model_validate(said)
    except ValueError:
        return None
    located = {name: store.located(artifact) for name, artifact in done.outputs.items()}
    return done.model_copy(update={"outputs": located})


def refused(store: Store) -> str | None:
    """A message about the records that had no valid signature; None if all had one."""
    if not store.refused:
        return None
    return (
        f"{store.url} has results that are not signed with your key: from an older version of "
        "Hone, from another user, or forged. They are computed again (a team that shares a store "
        "shares a key, HONE_STORE_KEY_FILE)"
    )
