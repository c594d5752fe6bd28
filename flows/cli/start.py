"""Where `hone` begins: the command line is imported, and a Ctrl-C meanwhile is a sentence."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Entry point."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored, and stays so
        signal.signal(signal.SIGINT, _leave)
    from .app import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _leave(number: int, _: FrameType | None) -> None:
    os.write(2, b"hone: interrupted\n")
    os._exit(128 + number)
