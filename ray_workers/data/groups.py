"""The groups that samples of the test split belong to: by label, by name, or by a function."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...recipe.errors import InputError, did_you_mean
from ...recipe.factories import Allowed, raised
from ...recipe.strict import Strict, short_name
from ..store.file_names import GROUPS
from .fetching import Fetcher, named_inputs
from .splits import Splits
from .targets import main_target

#: Groups by the target.
LABEL = "label"
#: The group of samples that have none.
MISSING = "missing"
_WHERE = "quality.groups"
_MOST_GROUPS = 1000


class Grouping(Strict):
    """A way to group the samples of the test split.

    Attributes:
        by: What the samples are grouped by.
        groups: Name of each group.
        members: Index of each sample's group in `groups`.
        missing: How many samples say none; they are the group 'missing'.
    """

    by: str
    groups: tuple[str, ...]
    members: tuple[int, ...]
    missing: int = 0

    def told(self) -> str | None:
        """What is said of samples without a group."""
        if not self.missing:
            return None
        return (
            f"{self.missing} of {len(self.members)} test samples have no {self.by}: they are the "
            f"group '{MISSING}'"
        )


def write_groupings(folder: Path, some: Sequence[Grouping]) -> None:
    """Write groups to a folder."""
    content = [one.model_dump(mode="json") for one in some]
    (folder / GROUPS).write_text(json.dumps(content))


def read_groupings(folder: Path) -> list[Grouping]:
    """The groups that were written to a folder."""
    return [
        Grouping.model_validate(one)
        for one in json.loads((folder / GROUPS).read_text(encoding="utf-8"))
    ]


def groupings(
    splits: Splits,
    names: Sequence[str],
    allowed: Allowed,
    target: str | None = None,
    most: int | None = None,
) -> list[Grouping]:
    """The groups of the samples of the test split.

    Args:
        splits: The data.
        names: As `quality.groups` has them.
        allowed: Which functions may be called.
        target: Of several targets, the one that `label` groups by.
        most: Samples to look at; None: all.

    Raises:
        InputError: There is no such name, a function fails, or what comes is no group.
    """
    count = len(splits.test) if most is None else min(most, len(splits.test))
    return [_grouping(name, list(_values(splits, name, allowed, target, count))) for name in names]


def _values(
    splits: Splits, name: str, allowed: Allowed, target: str | None, count: int
) -> Iterator[Any]:
    """Of each sample what says its group."""
    if ":" in name:
        yield from _by_function(splits, name, allowed, count)
        return
    columns = getattr(splits.test, "columns", {})
    known = {**columns, **splits.groups}
    fetcher = Fetcher(splits.test, splits.collate, "test")
    if name in known:
        if len(known[name]) != len(splits.test):
            raise InputError(
                f"Data.groups has {len(known[name])} values of '{name}' for {len(splits.test)} "
                "test samples",
                where="data.factory: Data.groups",
                do="give one for each sample, None where it has no group",
            )
        yield from known[name][:count]
        return
    inputs = [] if name == LABEL else list(named_inputs(fetcher.sample(0)))
    if name != LABEL and name not in inputs:
        raise InputError(
            f"the data have no '{name}' to group by: "
            f"{did_you_mean(name, [LABEL, *known, *inputs])}",
            where=_WHERE,
            do="give Data(groups={name: values}), or a function by import path",
        )
    for index in range(count):
        sample = fetcher.sample(index)
        yield _label(sample[1], target) if name == LABEL else named_inputs(sample)[name]


def _label(target: Any, chosen: str | None) -> Any:
    """The target of a sample that says its group."""
    return main_target(target, chosen) if isinstance(target, Mapping | tuple | list) else target


def _by_function(splits: Splits, name: str, allowed: Allowed, count: int) -> Iterator[Any]:
    function = allowed.resolve(name, _WHERE)
    fetcher = Fetcher(splits.test, splits.collate, "test")
    for index in range(count):
        inputs, target = fetcher.sample(index)
        try:
            yield function(inputs, target)
        except Exception as error:
            raise raised(f"the group of sample {index}", error, f"{_WHERE}: {name}") from error


def _grouping(name: str, values: list[Any]) -> Grouping:
    by = short_name(name)
    found = [_name_of(value, by) for value in values]
    groups = sorted({one for one in found if one is not None}, key=_in_order)
    if not groups:
        raise InputError(
            f"no test sample has a group by '{by}'",
            where=_WHERE,
            do="leave it out, or say the groups of the samples",
        )
    if len(groups) > _MOST_GROUPS:
        raise InputError(
            f"there are {len(groups)} different groups by '{by}', at most {_MOST_GROUPS} are "
            "supported",
            where=_WHERE,
            do="leave it out, or group them by a function of your own",
        )
    missing = found.count(None)
    if missing and MISSING not in groups:
        groups.append(MISSING)
    places = {one: i for i, one in enumerate(groups)}
    members = tuple(places[MISSING if one is None else one] for one in found)
    return Grouping(by=by, groups=tuple(groups), members=members, missing=missing)


def _in_order(name: str) -> tuple[int, float, str]:
    """Numbers by their size, then names."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _name_of(value: Any, by: str) -> str | None:
    """The name of a group; None if there is none.

    Raises:
        InputError: The value is no group.
    """
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    whole = isinstance(value, float) and by != LABEL and value.is_integer()
    if isinstance(value, str | int) or whole:  # a bool is an int
        return str(value if not whole else int(value))
    if by == LABEL:
        told = "label needs one integer target per sample"
    else:
        told = f"'{by}' needs one name, integer or bool per sample"
    kind = f"{value.dtype} of shape {tuple(value.shape)}" if hasattr(value, "dtype") else (
        f"{value!r:.40}"
    )  # fmt: skip
    raise InputError(
        f"groups: {told}, not {kind}", where=_WHERE, do="group them by a function of your own"
    )
