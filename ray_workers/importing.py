"""One thread at a time imports large libraries.

Two threads that import parts of one library can each hold what the other one waits for: `import
a.b` locks `a.b` and then `a`, `import a` locks `a` and then `a.b`. Python (`_DeadlockError` in
`importlib/_bootstrap.py`) ends that by giving one of them a module that is not complete, and now
and then the import fails with AttributeError or ImportError.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_turn = threading.RLock()


@contextlib.contextmanager
def importing_alone() -> Iterator[None]:
    """A context for imports of Ray, MLflow and Prefect in threads that run at the same time."""
    with _turn:
        yield
