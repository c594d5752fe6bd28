"""What a slow data factory returned, kept for the other steps of the run and for their workers.

The content is pickled once into Ray's object store, of which each node has one copy. Who is first
calls the factory; who asks meanwhile waits. Without Ray each step calls the factory.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import deque
from typing import Any

from ...recipe.data import Data
from ...recipe.factories import Allowed
from .formats import format_of
from .torch_datasets import TorchDatasets

SPLITS = ("train", "test", "validation", "calibration")
#: A faster factory is called again wherever its data are needed (s).
FAST = 0.5
#: What a factory may fill in place.
_GROWING = (dict, list, set, deque)
#: Larger data are not kept: each step calls the factory (bytes).
_MOST = 512 * 2**20


class ThroughRay:
    """`turns.Shared`, with the turns in an actor that outlives the steps.

    Args:
        actor: A `channel.Channel`.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def turn(self, key: str) -> tuple[str, Any]:
        """As `Shared.turn`."""
        import ray

        what, kept = ray.get(self._actor.turn.remote(key))
        return what, kept[0] if kept else None

    def renew(self, key: str) -> None:
        """As `Shared.renew`."""
        self._actor.renew.remote(key)

    def settle(self, key: str, content: bytes | None) -> Any:
        """As `Shared.settle`."""
        import ray

        kept = ray.get(self._actor.keep.remote(key, content))
        return kept[0] if kept else None

    def give_up(self, key: str) -> None:
        """As `Shared.give_up`."""
        self._actor.give_up.remote(key)

    def content(self, reference: Any) -> bytes | None:
        """As `Shared.content`."""
        import ray

        try:
            return bytes(ray.get(reference))
        except ray.exceptions.RayError:
            return None


class _Limited(io.BytesIO):
    def write(self, part: Any) -> int:
        if self.tell() + memoryview(part).nbytes > _MOST:  # arrays come as buffers, without len
            raise pickle.PicklingError("too large to keep")
        return super().write(part)


def _pickler() -> Any:
    """Of functions within functions, too; of open files not, which would be read to the end."""
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, io.IOBase):
                raise pickle.PicklingError("an open file")
            return super().reducer_override(obj)

    return Pickler


def content_of(data: Any) -> bytes | None:
    """What a factory returned, pickled; None if that can't be done.

    Open files and data that are in Ray already can't be kept for others.
    """
    if not isinstance(data, Data):
        return None
    try:
        for name in SPLITS:
            if getattr(data, name) is not None and not isinstance(
                format_of(name, data), TorchDatasets
            ):
                return None
    except Exception:  # whatever a data set raises when it is looked at
        return None
    return pickled(data)


def pickled(value: Any) -> bytes | None:
    """A value for other processes; None if it can't be copied, or is too large to keep."""
    target = _Limited()
    try:
        _pickler()(target, protocol=5).dump(value)
    except Exception:  # whatever a data set raises when it is copied
        return None
    return target.getvalue()


def data_in(content: bytes | None) -> Any:
    """The data, if their samples can be read; else None."""
    if content is None:
        return None
    try:
        data = pickle.loads(content)  # noqa: S301 (written by `content_of`, in this run)
        for name in SPLITS:
            if getattr(data, name) is not None:
                getattr(data, name)[0]
    except Exception:  # it needs something that only its factory sets up
        return None
    return data


def received(reference: Any) -> Any:
    """The data behind a reference; None without one."""
    return None if reference is None else data_in(ThroughRay(None).content(reference))


class Globals:
    """What the user's modules hold, to see whether a factory changed it for others to read.

    Args:
        allowed: With the names of the modules.
    """

    def __init__(self, allowed: Allowed) -> None:
        self._modules = {*allowed.modules}
        self._before = self._now()

    def changed(self) -> bool:
        """Whether a module that was there holds something else now."""
        now = self._now()
        return any(now.get(name) != held for name, held in self._before.items())

    def _now(self) -> dict[str, dict[str, tuple[int, int]]]:
        return {
            name: {
                key: (id(value), len(value) if isinstance(value, _GROWING) else 0)
                for key, value in list(vars(module).items())
            }
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in self._modules
        }
