"""How long tests in files called `test_fuzz_*.py` look: briefly, or as long as the benchmark asks."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("HONE_FUZZ_EXAMPLES")

#: Decorates a property. In the tests it is the same few examples each time.
fuzzed = settings(
    max_examples=int(_ASKED or 60),
    deadline=None,
    database=None,
    derandomize=_ASKED is None,
    suppress_health_check=list(HealthCheck),
)
