"""`hone setup`: what Hone needs on a Prefect server."""

from __future__ import annotations

import sys

from ..operate.setup import Wanted, check, set_up
from .deploy import server_for


def setup_command(
    pool: str | None,
    block: str | None,
    measurements: int | None,
    dry_run: bool,
    make_pool: bool = True,
) -> None:
    """Create it, and say what was made.

    Raises:
        HoneError: An option is wrong, or no server answers.
    """
    wanted = Wanted(pool, block, measurements, dry_run, make_pool)
    check(wanted)
    server_for("hone setup")
    for change in set_up(wanted):
        sys.stdout.write(f"{change.told(dry_run)}\n")
        sys.stdout.flush()
    if pool is None:
        sys.stdout.write("no deployments: --pool NAME makes one of each flow\n")
