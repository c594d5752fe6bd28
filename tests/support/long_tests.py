"""The list of tests that take long without starting anything large: read, and measured again."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "long_tests.txt"
#: A test that takes more processor time than this, its processes included, is long (s).
LIMIT = 0.3
_HEAD = f"""\
# Tests that took over {LIMIT} s of processor time when all ran in one process: `make quick` leaves them out.
# Written by: python -m pytest -m "not nightly" --measure-long
"""


def listed() -> set[str]:
    """Node ids: of single tests, or of a function with all its parameters."""
    lines = FILE.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def function(nodeid: str) -> str:
    """A node id without the parameters."""
    return nodeid.partition("[")[0]


class Measure:
    """A plugin of pytest that writes the list anew from the tests that it sees."""

    def __init__(self) -> None:
        self._took: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = _processor_time()
        result = yield
        if not (item.get_closest_marker("slow") or item.get_closest_marker("nightly")):
            self._took[item.nodeid] = _processor_time() - before
        return result

    def pytest_sessionfinish(self) -> None:
        FILE.write_text(_HEAD + "".join(f"{name}\n" for name in chosen(self._took)))


def chosen(took: dict[str, float]) -> list[str]:
    """The names for the list.

    Args:
        took: Processor time of each test (s), by node id.
    """
    family = defaultdict(list)
    for name, seconds in took.items():
        family[function(name)].append((seconds, name))
    names = []
    for shared, members in family.items():
        long = [name for seconds, name in members if seconds > LIMIT]
        names += [shared] if len(long) * 2 >= len(members) and long else long
    return sorted(names)


def _processor_time() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
