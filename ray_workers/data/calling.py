"""How a model is called with a batch, what its outputs are called, and which of them is used.

A model takes one tensor, a tuple of them, or a dictionary by name; values may be tuples and
dictionaries themselves, and None where an argument is left out. Runtimes take numpy arrays by name:
`arrays` gives each tensor the name of its place (`input`; `input_0`, `input_1`; `image`,
`boxes.0`), and `tensors` rebuilds the batch from the names alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...recipe.errors import InputError, did_you_mean
from ...recipe.library_messages import described

Arrays = dict[str, np.ndarray[Any, Any]]

#: Name of a model's input if it takes one tensor; of its output if it returns one.
INPUT, OUTPUT = "input", "output"
#: Attribute of a module: the name of the output that loss and quality look at, if the recipe says.
_CHOSEN = "hone_output"
#: Attribute of a traced module: what the module that it was traced from returned for a sample.
_FORM = "hone_form"
_POSITION = re.compile(rf"{INPUT}_(\d+)")


def call_model(model: Any, inputs: Any) -> torch.Tensor:
    """The model's main output for a batch: see `main_output`."""
    return main_output(called(model, inputs), chosen_output(model))


def returned_by(model: Any, inputs: Any) -> dict[str, torch.Tensor]:
    """All outputs of a model for a batch by name, the main one first."""
    return main_first(called(model, inputs), chosen_output(model))


def main_first(outputs: Any, chosen: str | None) -> dict[str, torch.Tensor]:
    """What a model returned by name, the main one first.

    Raises:
        InputError: There is no tensor in it, or none of the chosen name.
    """
    main = main_output(outputs, chosen)
    named = named_outputs(outputs)
    name = main_output_name(list(named), chosen)
    return {name: main, **named}


def outputs_for_loss(model: Any, inputs: Any, every: bool) -> Any:
    """What a loss gets of a batch: the main output, or everything as the model returns it."""
    if not every:
        return call_model(model, inputs)
    outputs = called(model, inputs)
    form = getattr(model, _FORM, None)
    return outputs if form is None else in_form(form, named_outputs(outputs))


def called(model: Any, inputs: Any) -> Any:
    """All that a model returns for a batch: a dictionary is given by name, a tuple in order."""
    positional, named = arguments(inputs)
    return model(*positional, **named)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as a model's arguments, those in order and those by name."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def choose_output(model: torch.nn.Module, name: str | None) -> torch.nn.Module:
    """Remember with a module which of its outputs is the main one; None leaves it open."""
    if name is not None:
        setattr(model, _CHOSEN, name)
    return model


def chosen_output(model: Any) -> str | None:
    """The name that `choose_output` gave, also through a wrapper such as DDP's."""
    found = getattr(model, _CHOSEN, None) or getattr(getattr(model, "module", None), _CHOSEN, None)
    return found if isinstance(found, str) else None


def keep_form(traced: torch.nn.Module, outputs: Any) -> torch.nn.Module:
    """Remember with a traced module, which returns tensors by name, what its source returned."""
    setattr(traced, _FORM, outputs)
    return traced


def in_form(form: Any, named: Mapping[str, torch.Tensor], place: str = "") -> Any:
    """The inverse of `named_outputs`.

    Args:
        form: Outputs of the same model for another batch.
        named: Tensors by the names of their places.
        place: Of `form` in all that the model returned.

    Returns:
        `form` with these tensors; what is no tensor is as it was.
    """
    if isinstance(form, torch.Tensor):
        return named[place or OUTPUT]

    def inner(name: str, value: Any) -> Any:
        return in_form(value, named, f"{place}.{name}" if place else name)

    if isinstance(form, Mapping):
        items = {key: inner(str(key), value) for key, value in form.items()}
        return items if type(form) is dict else type(form)(**items)
    if dataclasses.is_dataclass(form) and not isinstance(form, type):
        fields = [field.name for field in dataclasses.fields(form)]
        return dataclasses.replace(form, **{n: inner(n, getattr(form, n)) for n in fields})
    if isinstance(form, tuple) and hasattr(form, "_fields"):
        return type(form)(*(inner(n, v) for n, v in zip(form._fields, form, strict=True)))
    if isinstance(form, tuple | list):
        names = [str(i) if place else f"{OUTPUT}_{i}" for i in range(len(form))]
        return type(form)(inner(n, v) for n, v in zip(names, form, strict=True))
    return form


def named_outputs(outputs: Any) -> dict[str, torch.Tensor]:
    """Every tensor that a model returned, by the name of its place.

    A tensor alone is `output`; those of a mapping or dataclass have its names, those of a sequence
    are `output_0`, `output_1`; inner ones are joined by a point (`hidden_states.0`). What is no
    tensor is left out.
    """
    return dict(_walk(outputs, ""))


def _walk(value: Any, place: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield place or OUTPUT, value
        return
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        items = [(str(key), value[key]) for key in value.keys()]  # noqa: SIM118 (not only mappings)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, tuple | list):
        items = [(str(i) if place else f"{OUTPUT}_{i}", item) for i, item in enumerate(value)]
    else:
        return
    for name, item in items:
        yield from _walk(item, f"{place}.{name}" if place else name)


def main_output_name(names: Sequence[str], chosen: str | None = None) -> str:
    """The main one of several outputs: the chosen one; else `logits`, as transformers names it, or
    the first.

    Raises:
        InputError: The model has no output of the chosen name.
    """
    if chosen is not None:
        if chosen not in names:
            raise InputError(
                f"the model has no output '{chosen}': {did_you_mean(chosen, names)}",
                where="model.output",
            )
        return chosen
    return next((n for n in names if n == "logits" or n.startswith("logits.")), names[0])


def main_output(outputs: Any, chosen: str | None = None) -> torch.Tensor:
    """The main output of a model that may return a tensor, a sequence, a mapping or a dataclass.

    Raises:
        InputError: There is no tensor in it, or none of the chosen name.
    """
    if isinstance(outputs, torch.Tensor) and chosen in (None, OUTPUT):
        return outputs
    named = named_outputs(outputs)
    if not named:
        raise InputError(
            f"the model returned {described(outputs)}, expected a tensor, or a tuple or "
            "dictionary of tensors",
            where="model.factory",
        )
    return named[main_output_name(list(named), chosen)]


def move(inputs: Any, device: torch.device, without_waiting: bool = False) -> Any:
    """A batch's inputs on a device; without waiting, if they are in pinned memory."""
    return mapped(inputs, lambda value: value.to(device, non_blocking=without_waiting))


def mapped(inputs: Any, change: Callable[[Any], Any]) -> Any:
    """A batch's inputs with each tensor changed; what is None stays None."""
    if isinstance(inputs, Mapping):
        return {name: mapped(value, change) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(mapped(value, change) for value in inputs)
    return inputs if inputs is None else change(inputs)


def arrays(inputs: Any) -> Arrays:
    """A batch's inputs as numpy arrays by the name of their place; None is left out.

    Raises:
        InputError: A value is no tensor of numbers, or a name has a point in it.
    """
    return {name: _as_array(name, value) for name, value in flat_inputs(inputs)}


def leaves(value: Any, whole: str, place: str = "") -> Iterator[tuple[str, Any]]:
    """What is in a tuple or dictionary of a sample or batch, by the name of its place.

    Args:
        value: That.
        whole: Name of a value that is neither; of the parts of a tuple: `whole_0`, `whole_1`.
        place: Of the value in the sample.
    """
    if isinstance(value, Mapping):
        items = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, tuple | list):
        items = [(str(i) if place else f"{whole}_{i}", inner) for i, inner in enumerate(value)]
    else:
        yield place or whole, value
        return
    for name, inner in items:
        yield from leaves(inner, whole, f"{place}.{name}" if place else name)


def flat_inputs(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The inputs of a batch or a sample by the name of their place; None is left out."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if "." in str(name):
                raise InputError(
                    f"an input is called '{name}': names of inputs can't have a point",
                    where="data.factory",
                    do="rename it in the samples, and the argument of the model's forward",
                )
            yield from flat_inputs(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from flat_inputs(item, f"{place}.{index}" if place else f"{INPUT}_{index}")
    elif value is not None:
        yield place or INPUT, value


def _as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        found: np.ndarray[Any, Any] = torch.as_tensor(value).numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(
            f"the input '{name}' is of type {kind}, which runtimes can't take",
            where="data.factory",
            do="give tensors of float64, float32, float16, integers or bool",
        ) from error
    if found.ndim == 0:
        raise InputError(
            f"the input '{name}' is one number for the whole batch, without a batch axis",
            where="data.factory: Data.collate",
            do="give one value for each sample, shape (N,), or make it an argument of the factory",
        )
    return found


def tensors(named: Arrays) -> Any:
    """The inverse of `arrays`; what was None in between is None again."""
    return rebuilt({name: torch.from_numpy(value) for name, value in named.items()})


def rebuilt(named: Mapping[str, Any]) -> Any:
    """A batch from values by the names of their places."""
    if list(named) == [INPUT]:
        return named[INPUT]
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *path, last = name.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    if all(_POSITION.fullmatch(name) for name in tree):
        tree = {name.rpartition("_")[2]: value for name, value in tree.items()}
        return _sequence(tree)
    return {name: _closed(value) for name, value in tree.items()}


def _closed(value: Any) -> Any:
    """An inner part of a batch: a dictionary whose keys are positions is a tuple."""
    if not isinstance(value, dict):
        return value
    if all(name.isdecimal() for name in value):
        return _sequence(value)
    return {name: _closed(inner) for name, inner in value.items()}


def _sequence(items: dict[str, Any]) -> tuple[Any, ...]:
    last = max(map(int, items))
    return tuple(_closed(items.get(str(index))) for index in range(last + 1))
