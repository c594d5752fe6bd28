"""Why a Ray worker died, as far as Ray knows, in a few words: Ray's own take a page."""

from __future__ import annotations

import re

_NODE = re.compile(r"node (was|is|has|that).{0,40}(dead|died|terminated|removed)|Node")
_SIGNAL = re.compile(r"SIG[A-Z]{3,}")
#: Where Ray knows nothing it lists what is common, signals among them.
_GUESSES = re.compile(r"(Some common causes include|There are some potential root causes).*", re.S)


def cause_of_death(error: BaseException) -> str:
    """What Ray's error about a dead worker comes down to."""
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
