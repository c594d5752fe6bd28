"""Data that a slow factory returned, sent to the workers instead of calling it in each of them."""

from __future__ import annotations

import io
import pickle
from typing import Any

#: A faster factory is called again in each worker (s).
_FAST = 0.5
#: Larger data are not sent: each worker calls the factory (bytes).
_MOST = 512 * 2**20


class _Limited(io.BytesIO):
    def write(self, part: Any) -> int:
        if self.tell() + len(part) > _MOST:
            raise pickle.PicklingError("too large to send")
        return super().write(part)


def sent(data: Any, seconds: float) -> Any:
    """A reference to a copy of the data in Ray's object store; None: workers call the factory.

    Each node gets one copy. What can't be pickled (open files, functions within functions) is not
    sent.

    Args:
        data: What the factory returned.
        seconds: How long it took.
    """
    if seconds < _FAST:
        return None
    import ray

    target = _Limited()
    try:
        pickle.Pickler(target, protocol=5).dump(data)
    except Exception:  # whatever a data set raises when it is copied
        return None
    return ray.put(target.getvalue())


def received(reference: Any) -> Any:
    """The data; their classes must be importable. None without a reference."""
    if reference is None:
        return None
    import ray

    return pickle.loads(ray.get(reference))  # noqa: S301 (written by `sent`, in this cluster)
