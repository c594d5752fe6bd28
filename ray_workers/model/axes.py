"""Axes of a model's inputs besides the batch that differ between samples: lengths, image sizes.

`check` finds them by looking at several real batches, or the recipe declares them
(`model.dynamic_axes`). They are kept beside the inputs that later steps get: what varies in
`axes.json`, and batches at their own sizes in `batches.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ...recipe.errors import InputError, did_you_mean
from ...recipe.strict import Strict
from ..data.calling import Arrays
from ..store.file_names import AXES_FILE, BATCHES_FILE
from .onnx_files import AXES, property_of, set_property

BATCH = "batch"


class Varying(Strict):
    """An axis that differs between batches.

    Attributes:
        input: Name of the input.
        axis: Its position; the batch is 0.
        name: In the exported graph; axes of the same name have the same size.
        least: The smallest size that was seen.
        most: The largest one.
    """

    input: str
    axis: int
    name: str
    least: int
    most: int

    def __str__(self) -> str:
        size = f" ({self.least} to {self.most})" if self.least < self.most else ""
        return f"axis {self.axis} of '{self.input}'{size}"


def found_axes(
    batches: Sequence[Arrays], declared: Mapping[str, Mapping[int, str]]
) -> tuple[Varying, ...]:
    """The axes that differ between batches, and those that a recipe declares.

    Args:
        batches: Real ones, at their own sizes; each (N, ...).
        declared: From an input's name and an axis to the axis's name.

    Raises:
        InputError: A declared input or axis does not exist.
    """
    first = batches[0]
    _check(first, declared)
    seen = {
        (name, axis): tuple(batch[name].shape[axis] for batch in batches if name in batch)
        for name, value in first.items()
        for axis in range(1, value.ndim)
    }
    names: dict[tuple[int, ...], str] = {}
    found = []
    for (name, axis), sizes in seen.items():
        given = declared.get(name, {}).get(axis)
        if given is None and min(sizes) == max(sizes):
            continue
        # Axes that always had the same sizes, such as those of tokens and mask, are one.
        own = names.setdefault(sizes, given or f"{name.replace('.', '_')}_{axis}")
        found.append(
            Varying(input=name, axis=axis, name=given or own, least=min(sizes), most=max(sizes))
        )
    return tuple(found)


def _check(batch: Arrays, declared: Mapping[str, Mapping[int, str]]) -> None:
    for name, axes in declared.items():
        if name not in batch:
            raise InputError(
                f"the data has no input '{name}': {did_you_mean(name, batch)}",
                where="model.dynamic_axes",
            )
        for axis in axes:
            if not 0 < axis < batch[name].ndim:
                raise InputError(
                    f"'{name}' has shape {('N', *batch[name].shape[1:])}, so it has no axis {axis} "
                    "that could vary besides the batch",
                    where=f"model.dynamic_axes.{name}",
                )


def write_axes(folder: Path, axes: Sequence[Varying], batches: Sequence[Arrays]) -> None:
    """Keep what varies, and batches at their own sizes; nothing if no axis varies."""
    if not axes:
        return
    (folder / AXES_FILE).write_text(json.dumps([axis.model_dump() for axis in axes]) + "\n")
    kept = {
        f"{index:05}/{name}": np.ascontiguousarray(value)
        for index, batch in enumerate(batches)
        for name, value in batch.items()
    }
    save_file(kept, str(folder / BATCHES_FILE))


def read_axes(folder: Path) -> tuple[Varying, ...]:
    """What varies in the inputs of a folder."""
    path = folder / AXES_FILE
    if not path.exists():
        return ()
    return tuple(
        Varying.model_validate(said) for said in json.loads(path.read_text(encoding="utf-8"))
    )


def set_axes(graph: Any, axes: Sequence[Varying]) -> None:
    """Keep with a graph what varies, and the sizes that were seen."""
    if axes:
        set_property(graph, AXES, json.dumps([axis.model_dump() for axis in axes]))


def axes_of_graph(graph: Any) -> tuple[Varying, ...]:
    """What `set_axes` kept."""
    said = property_of(graph, AXES)
    return tuple(Varying.model_validate(one) for one in json.loads(said)) if said else ()


def read_batches(folder: Path, size: int | None = None) -> list[Arrays]:
    """Batches at their own sizes; none if no axis varies.

    Args:
        folder: Of inputs.
        size: Only those with this many samples.
    """
    path = folder / BATCHES_FILE
    batches: dict[str, Arrays] = {}
    if path.exists():
        for key, value in sorted(load_file(str(path)).items()):
            index, _, name = key.partition("/")
            batches.setdefault(index, {})[name] = value
    return [batch for batch in batches.values() if size is None or _count(batch) == size]


def _count(batch: Arrays) -> int:
    return len(next(iter(batch.values())))
