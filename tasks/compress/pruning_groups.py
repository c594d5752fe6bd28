"""torch-pruning's search for what is connected to a channel, so that it ends.

torch-pruning 1.6 follows the channels of a layer as lists, and visits an operator again for each
order in which they come. Where a model turns its channels, as rotary position embeddings do, the
orders multiply, and the numbers of the channels grow past every layer's width: the search doesn't
end. It merges by channel what it found, so an operator only has to be visited again for channels
that were not there before; and a channel that no layer has says that it is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import nn

#: Times the largest axis of a parameter, that the axes of values in between may have.
_WIDER = 4


class LostChannels(Exception):
    """The channels of a layer can't be followed.

    Attributes:
        layer: Its name.
    """

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


@contextmanager
def visiting_once(model: nn.Module) -> Iterator[None]:
    """Visit each operator once for each channel while a model's groups are built.

    Raises:
        LostChannels: The channels of a layer become more than any layer has.
    """
    from torch_pruning.dependency.group import Group

    added = Group.add_dep
    names = {id(module): name for name, module in model.named_modules()}
    most = _WIDER * max((max(p.shape, default=1) for p in model.parameters()), default=1)

    def add_dep(self: Any, dep: Any, idxs: Any) -> None:
        once = {_channel(index): index for index in reversed(idxs)}
        if max(once, default=0) >= most and self.items:
            root = self.items[0].dep.target.module
            raise LostChannels(names.get(id(root), str(root)))
        idxs[:] = reversed(once.values())
        added(self, dep, idxs)
        _seen(self, dep).update(once)

    def has_pruning_op(self: Any, dep: Any, idxs: Any) -> bool:
        return _seen(self, dep).issuperset(map(_channel, idxs))

    with patch.multiple(Group, add_dep=add_dep, has_pruning_op=has_pruning_op):
        yield


def _seen(group: Any, dep: Any) -> set[int]:
    """Channels with which an operator was visited."""
    visited: dict[Any, set[int]] = group.__dict__.setdefault("_channels_of", {})
    return visited.setdefault((dep.target, dep.handler), set())


def _channel(index: Any) -> int:
    return int(getattr(index, "idx", index))
