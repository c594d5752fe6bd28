"""Warnings about the user's own code are told, once each; those of libraries stay quiet."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

from ..recipe.factories import Allowed, users_file
from ..recipe.library_messages import own_words
from .events import Note, Report

#: What a note about a warning begins with.
WARNING = "warning: "


@contextlib.contextmanager
def told_warnings(report: Report, allowed: Allowed) -> Iterator[None]:
    """A context in which a warning that points to the user's code becomes a note.

    A warning points to the module that called what warned, as Python's `stacklevel` has it.

    Args:
        report: Receives the notes.
        allowed: Tells which modules are the user's.
    """
    names = [re.escape(name) for name in (*allowed.modules, *allowed.prefixes)]
    if not names:
        yield
        return
    owner, told = os.getpid(), set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        said = own_words(message if isinstance(message, Warning) else UserWarning(message))
        text = f"{WARNING}{users_file(filename)}:{lineno}: {category.__name__}: {said}"
        if os.getpid() == owner and text not in told:  # a forked process has no report of its own
            told.add(text)
            report(Note(text))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=rf"(?:{'|'.join(names)})(?:\.|$)")
        warnings.showwarning = show
        yield
