"""Deliveries: every event that MLflow delivered, kept before it is answered and taken once.

MLflow repeats a delivery, with the same id, when it gets no answer; and whoever records one can
send it again. An id is kept far longer than a delivery's signature is accepted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from .listener_state import ListenerState

#: How long ids are kept (s); signatures are accepted for 5 minutes.
RETENTION = 7 * 24 * 3600.0
#: After this time a delivery whose process died is taken by another one (s).
LEASE = 120.0
_LONGEST_WAIT = 60.0  # s between tries


class State(StrEnum):
    """What became of a delivery."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Delivery:
    """A delivery that is taken.

    Attributes:
        id: MLflow's.
        body: As it was signed.
        tries: How often it has been taken, this time included.
    """

    id: str
    body: str
    tries: int


class Deliveries:
    """The deliveries in a state file."""

    def __init__(self, state: ListenerState) -> None:
        self._state = state

    def keep(self, delivery: str, body: str) -> bool:
        """Keep a delivery; returns whether it is new.

        Raises:
            StoreError: It can't be written, so the sender has to send it again.
        """
        now = time.time()
        return bool(
            self._state.run(
                "INSERT INTO deliveries(id, received, body, state, due) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING id",
                (delivery, now, body, State.WAITING.value, now),
            )
        )

    def take(self) -> Delivery | None:
        """The oldest delivery that is due; nobody else takes it while the lease lasts."""
        now = time.time()
        found = self._state.run(
            "UPDATE deliveries SET due = ?, tries = tries + 1 WHERE id = (SELECT id FROM "
            "deliveries WHERE state = ? AND due <= ? ORDER BY received LIMIT 1) "
            "RETURNING id, body, tries",
            (now + LEASE, State.WAITING.value, now),
        )
        return Delivery(*found[0]) if found else None

    def settle(self, delivery: str, note: str, failed: bool = False) -> None:
        """A delivery is done with."""
        state = State.FAILED if failed else State.DONE
        self._state.run(
            "UPDATE deliveries SET state = ?, note = ?, body = '' WHERE id = ?",
            (state.value, note[:1000], delivery),
        )

    def later(self, delivery: Delivery, note: str) -> None:
        """A delivery has to wait: a server is away."""
        wait = min(_LONGEST_WAIT, 0.5 * 2 ** min(delivery.tries, 10))
        self._state.run(
            "UPDATE deliveries SET due = ?, note = ? WHERE id = ?",
            (time.time() + wait, note[:1000], delivery.id),
        )

    def forget(self, older_than: float = RETENTION) -> None:
        """Remove what is long done with."""
        self._state.run(
            "DELETE FROM deliveries WHERE state != ? AND received < ?",
            (State.WAITING.value, time.time() - older_than),
        )

    def counts(self) -> dict[str, int]:
        """How many are in each state."""
        found = self._state.run("SELECT state, count(*) FROM deliveries GROUP BY state")
        return {**{state.value: 0 for state in State}, **{str(s): int(n) for s, n in found}}
