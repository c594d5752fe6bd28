"""No credentials in log records, whoever writes them: Prefect sends them to its server."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from ..recipe.showable import showable


def hide_in_logs() -> None:
    """Hide credentials in all messages and tracebacks that are logged from now on."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides", False):
        return

    def record(*arguments: Any, **options: Any) -> logging.LogRecord:
        made = make(*arguments, **options)
        try:
            said = made.getMessage()
        except Exception:  # the caller's mistake, which logging reports
            return made
        if (shown := showable(said)) != said:
            made.msg, made.args = shown, ()
        if made.exc_info and made.exc_info[1] is not None:
            text = "".join(traceback.format_exception(*made.exc_info)).rstrip()
            made.exc_text = showable(text)  # a formatter uses it instead of formatting again
        return made

    record.hides = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)
