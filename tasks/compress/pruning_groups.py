"""torch-pruning's search for what is connected to a channel, so that it ends, and doesn't fail.

torch-pruning 1.6 follows the channels of a layer as lists, and visits an operator again for each
order in which they come. Where a model turns its channels, as rotary position embeddings do, the
orders multiply, and the numbers of the channels grow past every layer's width: the search doesn't
end. It merges by channel what it found, so an operator only has to be visited again for channels
that were not there before; and a channel that no layer has says that it is lost.

It takes each concatenation and split for one of channels, and fails where tokens are concatenated
and their number can't be found. Such an operator passes channels on as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from torch import nn

#: Times the largest axis of a parameter, that the axes of values in between may have.
_WIDER = 4
#: The importance of each channel of a group.
Weigh = Callable[..., Any]
#: How the channels before an operator become those after it, by torch-pruning's names.
_MAPPINGS = (
    "update_concat_index_mapping", "update_split_index_mapping", "update_unbind_index_mapping",
    "update_expand_index_mapping", "update_slice_index_mapping", "update_reshape_index_mapping",
)  # fmt: skip


class LostChannels(Exception):
    """The channels of a layer can't be followed.

    Attributes:
        layer: Its name.
    """

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


@contextmanager
def searching(model: nn.Module) -> Iterator[Callable[[Weigh], Weigh]]:
    """While a model's groups are built and pruned, visit each operator once for each channel.

    Gives what makes an importance name the layer that it fails at.

    Raises:
        LostChannels: The channels of a layer become more than any layer has, or can't be removed.
    """
    from torch_pruning.dependency import index_mapping
    from torch_pruning.dependency.group import Group

    added, removed = Group.add_dep, Group.prune
    names = {id(module): name for name, module in model.named_modules()}

    def root_of(group: Any) -> str:
        root = group[0].dep.target.module
        return str(names.get(id(root), root))

    most = _WIDER * max((max(p.shape, default=1) for p in model.parameters()), default=1)

    def add_dep(self: Any, dep: Any, idxs: Any) -> None:
        once = {_channel(index): index for index in reversed(idxs)}
        if max(once, default=0) >= most and self.items:
            raise LostChannels(root_of(self))
        idxs[:] = reversed(once.values())
        added(self, dep, idxs)
        _seen(self, dep).update(once)

    def has_pruning_op(self: Any, dep: Any, idxs: Any) -> bool:
        return _seen(self, dep).issuperset(map(_channel, idxs))

    def prune(self: Any, *arguments: Any, **named: Any) -> Any:
        with _naming(lambda: root_of(self)):
            return removed(self, *arguments, **named)

    def weighing(importance: Weigh) -> Weigh:
        def weighed(group: Any, *arguments: Any, **named: Any) -> Any:
            with _naming(lambda: root_of(group)):
                return importance(group, *arguments, **named)

        return weighed

    tolerant: dict[str, Any] = {
        name: _if_it_can(getattr(index_mapping, name)) for name in _MAPPINGS
    }
    with (
        patch.multiple(Group, add_dep=add_dep, has_pruning_op=has_pruning_op, prune=prune),
        patch.multiple(index_mapping, **tolerant),
    ):
        yield weighing


@contextmanager
def _naming(root: Callable[[], str]) -> Iterator[None]:
    """Name the layer whose group torch-pruning fails at."""
    try:
        yield
    except LostChannels:
        raise
    except Exception as error:
        raise LostChannels(root()) from error


def _if_it_can(update: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def updated(graph: Any, node: Any) -> None:
        with suppress(Exception):
            update(graph, node)

    return updated


def _seen(group: Any, dep: Any) -> set[int]:
    """Channels with which an operator was visited."""
    visited: dict[Any, set[int]] = group.__dict__.setdefault("_channels_of", {})
    return visited.setdefault((dep.target, dep.handler), set())


def _channel(index: Any) -> int:
    return int(getattr(index, "idx", index))
