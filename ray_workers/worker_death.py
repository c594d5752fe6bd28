"""Why workers died: Ray's, in a few words instead of its page, and those that read data."""

from __future__ import annotations

import re

from ..recipe.errors import StepCrashed

_NODE = re.compile(r"node (was|is|has|that).{0,40}(dead|died|terminated|removed)|Node")
_SIGNAL = re.compile(r"SIG[A-Z]{3,}")
#: If Ray does not know, it lists common causes, which include signals.
_GUESSES = re.compile(r"(Some common causes include|There are some potential root causes).*", re.S)


def cause_of_death(error: BaseException) -> str:
    """The cause in Ray's error about a dead worker, in a few words."""
    if "OutOfMemory" in type(error).__name__:
        return "the node ran out of memory"
    text = _GUESSES.sub("", str(error))
    if _NODE.search(text):
        return "its node went away"
    if found := _SIGNAL.search(text):
        return found.group(0)
    if "unavailable" in text or "Socket closed" in text:
        return "its process or node went away"
    return "killed, out of memory, or a crash in native code"


def reader_died() -> StepCrashed:
    """A process that reads the data died: training goes on as after a lost worker."""
    return StepCrashed(
        "a process that reads the data died",
        where="train.loading",
        do="it may have lacked memory: lower train.loading.workers or prefetch",
    )
