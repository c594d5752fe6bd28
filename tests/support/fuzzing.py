"""For tests in files called `test_fuzz_*.py`: how long they look (briefly, or as long as the benchmark
asks), and changes of good values and files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st

_ASKED = os.environ.get("HONE_FUZZ_EXAMPLES")
_SEED = os.environ.get("HONE_FUZZ_SEED")
_SETTINGS = settings(
    max_examples=int(_ASKED or 30),
    deadline=None,
    database=None,
    derandomize=_ASKED is None,
    suppress_health_check=list(HealthCheck),
)


def fuzzed(test: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a property. In the tests it sees the same few examples each time."""
    chosen: Callable[..., Any] = _SETTINGS(test)
    return seed(int(_SEED))(chosen) if _SEED else chosen


#: What JSON can say, and what looks like a path, a name or code.
TEXTS = st.sampled_from(
    ["", "x", "../x", "a/b", "/etc/passwd", "\0", "\u2028", "\ud800", "http://169.254.169.254/",
     "file:///etc/passwd", "__class__", "os:system", "1" * 64, "${HOME}", "%2e%2e", "C:\\x"]
) | st.text(max_size=5)  # fmt: skip
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
Changes = list[tuple[tuple[Any, ...], Any]]


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value within plain data."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places_of(inner, (*path, key))
    return found


def changes_of(value: Any, plain: st.SearchStrategy[Any] = PLAIN) -> st.SearchStrategy[Changes]:
    """A few values to put in other places of plain data."""
    return st.lists(st.tuples(st.sampled_from(places_of(value)), plain), min_size=1, max_size=3)


def changed_values(value: Any, changes: Changes) -> Any:
    """A copy of plain data with these changes."""
    copy = json.loads(json.dumps(value))
    for path, new in changes:
        place = copy
        with contextlib.suppress(LookupError, TypeError):  # another change was there before
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = new
    return copy


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A file after a few cuts, copies and insertions."""
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        piece = content[start : min(end, start + 40)]
        match draw(st.sampled_from(("cut", "copy", "insert", "repeat", "end"))):
            case "cut":
                content = content[:start] + content[start + len(piece) :]
            case "copy":
                place = draw(st.integers(0, len(content)))
                content = content[:place] + piece + content[place:]
            case "insert":
                content = content[:start] + draw(st.binary(max_size=8)) + content[start:]
            case "repeat":
                times = draw(st.integers(2, 400))
                content = content[:start] + (piece or b"[") * times + content[end:]
            case _:
                content = content[:start]
    return content
