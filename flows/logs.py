"""Log records: without credentials, whoever writes them; as JSON lines, if a setting says so."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from ..recipe.errors import InputError
from ..recipe.showable import showable

FORMAT = "HONE_LOG_FORMAT"
#: Of these, those that are known stand in each JSON line. Prefect's loggers know the first ones.
_FIELDS = (
    "flow_run_id", "flow_run_name", "task_run_id", "run_id", "recipe", "step", "candidate",
)  # fmt: skip

#: Of the run of this process, in all of its threads.
_run: dict[str, str] = {}
#: Of the step that a thread works on.
_step: ContextVar[dict[str, str] | None] = ContextVar("hone_logged_step", default=None)


def hide_in_logs() -> None:
    """Hide credentials in all messages and tracebacks that are logged from now on."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides", False):
        return

    def record(*arguments: Any, **options: Any) -> logging.LogRecord:
        made = make(*arguments, **options)
        made.about = {**_run, **(_step.get() or {})}
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


def about_run(**known: str | None) -> None:
    """Name in each record of this process: `flow_run_id`, `run_id` (MLflow's), `recipe`."""
    _run.update({name: value for name, value in known.items() if value})


@contextlib.contextmanager
def about_step(step: str, candidate: str | None) -> Iterator[None]:
    """Name in each record of this thread the step that it works on."""
    known = {"step": step, "candidate": candidate}
    token = _step.set({name: value for name, value in known.items() if value})
    try:
        yield
    finally:
        _step.reset(token)


class JsonLines(logging.Formatter):
    """A record as a line of JSON: `time` (UTC), `level`, `logger`, `message`, and what is known of
    `flow_run_id`, `flow_run_name`, `task_run_id`, `run_id`, `recipe`, `step`, `candidate`; with an
    exception `error`, its traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        about = getattr(record, "about", {})
        for name in _FIELDS:
            value = about.get(name) or getattr(record, name, None)
            if value:
                line[name] = str(value)
        if record.exc_text or record.exc_info:
            line["error"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps(line, ensure_ascii=False, default=str)


def as_json() -> bool:
    """Whether log lines are JSON: `HONE_LOG_FORMAT=json`.

    Raises:
        InputError: The variable has another value.
    """
    value = os.environ.get(FORMAT, "").strip()
    if value not in ("", "text", "json"):
        raise InputError(f"there is no log format '{value}'", where=FORMAT, do="use text or json")
    return value == "json"


def use_log_format() -> None:
    """Write JSON lines to standard error from now on, if the setting says so.

    Raises:
        InputError: It has another value.
    """
    hide_in_logs()
    root = logging.getLogger()
    if not as_json() or any(isinstance(h.formatter, JsonLines) for h in root.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger("hone").setLevel(logging.INFO)
    prefect = sys.modules.get("prefect")
    if prefect is not None:
        from .prefect_private import replace_console

        replace_console(handler)
    if handler not in root.handlers:
        root.addHandler(handler)


def use_service_log() -> None:
    """Log Hone's own lines to standard error, each with its time, or as JSON: for a service.

    Raises:
        InputError: `HONE_LOG_FORMAT` has another value.
    """
    use_log_format()
    log = logging.getLogger("hone")
    if as_json() or log.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def say(text: str) -> None:
    """What a command tells its user on standard error, in the format of the log."""
    try:
        plain = not as_json()
    except InputError:
        plain = True
    if plain:
        sys.stderr.write(f"hone: {text}\n")
    else:
        use_log_format()
        logging.getLogger("hone").error(text)
