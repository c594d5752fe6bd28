"""Who this process works for, as the ledger calls them."""

from __future__ import annotations

import getpass
import socket


def account() -> str:
    """`USER@HOST`, or the host alone for a user without a name."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()
