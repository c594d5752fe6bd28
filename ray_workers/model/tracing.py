"""A module as a `torch.export` program in which the batch and what else varies stay free.

torch freezes an axis that the model's code uses as a number (a loop over samples, `int(len(x))`)
without an error. Here the line that did it is caught while it runs, and refused by its place.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...recipe.errors import HoneError, StepFailed
from ...recipe.factories import users_place
from ...recipe.library_messages import telling
from ..data.calling import (
    Arrays,
    called,
    chosen_output,
    flat_inputs,
    main_output_name,
    named_outputs,
    rebuilt,
)
from ..torch_private import oblivious_sizes, recurrent_operators
from .axes import BATCH, Varying
from .complex_numbers import NoRealForm, has_complex, without_complex
from .embedding_bags import plain_embedding_bags
from .experts import exportable_experts
from .export_errors import as_export_error
from .symbolic_len import free_sizes_by_len

_LOGGER = "torch.fx.experimental.symbolic_shapes"


@dataclass(frozen=True)
class Traced:
    """A traced module.

    Attributes:
        program: The `torch.export.ExportedProgram`.
        inputs: Names of its inputs, in its order.
        outputs: Names of its outputs, in its order.
        main: The one of them that quality looks at.
        axes: The name of each free axis, by input.
        returned: What the module itself returned, in its own form.
        not_real: Why there are complex numbers in the program, which graphs can't have.
    """

    program: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    main: str
    axes: Mapping[str, Mapping[int, str]]
    returned: Any
    not_real: NoRealForm | None = None


def trace(
    model: torch.nn.Module,
    example: Arrays,
    varying: Sequence[Varying] = (),
    users: Mapping[str, str] = {},
) -> Traced:
    """Trace a module with real inputs.

    Args:
        model: In evaluation mode, or as it is in training.
        example: At least 2 samples by name, each (N, ...).
        varying: What stays free besides the batch.
        users: What the user calls an input, where it has another name here.

    Raises:
        StepFailed: It can't be traced, or fixes an axis that must stay free; with the line.
    """
    axes = {name: {0: BATCH} for name in example}
    for one in varying:
        axes[one.input][one.axis] = one.name
    given, names = _arguments(model, example)
    trains = model.training
    with torch.no_grad():
        returned = called(model.eval(), rebuilt(given))
    model.train(trains)
    outputs = list(named_outputs(returned))
    main = main_output_name(outputs, chosen_output(model))
    with (
        quiet(), _named(model, returned), recurrent_operators(model), oblivious_sizes(),
        exportable_experts(model), free_sizes_by_len(model), plain_embedding_bags(),
    ):  # fmt: skip
        program, not_real, watch = _exported(model, given, _shapes(model, given, axes))
    for name, node in zip(names, _inputs_of(program), strict=True):
        value = node.meta.get("val")
        for axis, free in axes[name].items():
            if isinstance(value, torch.Tensor):
                what = f"axis {axis} of '{users.get(name, name)}'"
                _check_free(program, value.shape[axis], what, free, watch)
    return Traced(program, tuple(names), tuple(outputs), main, axes, returned, not_real)


def example_of(batches: Sequence[Arrays]) -> Arrays:
    """A batch to trace with: of 2 samples or more, without an axis of size 1 if there is one."""
    several = [b for b in batches if len(next(iter(b.values()))) > 1] or list(batches)
    best = max(several, key=lambda b: min(min(v.shape[1:], default=2) for v in b.values()))
    count = len(next(iter(best.values())))
    rows = np.arange(max(2, min(count, 3))) % count
    return {name: np.ascontiguousarray(value[rows]) for name, value in best.items()}


def _arguments(model: torch.nn.Module, example: Arrays) -> tuple[dict[str, Any], list[str]]:
    """Tensors by name in the order of the model's arguments, which is the program's order.

    Those of an example that was kept in a file come in the order of their types.
    """
    given = {name: torch.from_numpy(value) for name, value in example.items()}
    batch = rebuilt(given)
    if isinstance(batch, Mapping):
        try:
            order = list(inspect.signature(model.forward).parameters)
        except (TypeError, ValueError):
            order = []
        place = {name: index for index, name in enumerate(order)}
        names = sorted(batch, key=lambda name: place.get(name, len(place)))
        batch = {name: batch[name] for name in names}
    names = [name for name, _ in flat_inputs(batch)]
    return {name: given[name] for name in names}, names


def _shapes(
    model: torch.nn.Module, given: Mapping[str, Any], axes: Mapping[str, Mapping[int, str]]
) -> Any:
    """The `dynamic_shapes` of `torch.export`: a tree like the model's arguments.

    Every free axis is AUTO: what the model requires of it (equal lengths, a multiple of 4) is
    found out, not refused.
    """
    auto = torch.export.Dim.AUTO
    of = {id(given[name]): dict.fromkeys(axes[name], auto) for name in given}

    def shape(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: shape(inner) for name, inner in value.items()}
        return tuple(map(shape, value)) if isinstance(value, tuple) else of.get(id(value))

    batch = rebuilt(given)
    signature = inspect.signature(model.forward)
    if isinstance(batch, Mapping):
        bound = signature.bind(**batch)
    else:
        bound = signature.bind(*batch) if isinstance(batch, tuple) else signature.bind(batch)
    return {name: shape(value) for name, value in bound.arguments.items()}


def _exported(
    model: torch.nn.Module, given: Mapping[str, Any], shapes: Any
) -> tuple[Any, NoRealForm | None, _Watch]:
    batch = rebuilt(given)
    args = batch if isinstance(batch, tuple) else () if isinstance(batch, Mapping) else (batch,)
    kwargs = dict(batch) if isinstance(batch, Mapping) else None
    first: Exception | None = None
    for strict, differentiable in ((False, True), (True, True), (False, False)):
        if not differentiable and "complex" not in str(first):
            break  # torch can't differentiate all that it computes with complex numbers
        watch = _Watch()
        try:
            with watch.watching(), torch.set_grad_enabled(differentiable):
                program = torch.export.export(
                    model, args, kwargs, dynamic_shapes=shapes, strict=strict
                )
        except HoneError:
            raise
        except Exception as error:
            first = first or error
        else:
            return *_of_real_numbers(program, model, args, kwargs, shapes), watch
    assert first is not None  # noqa: S101 (narrows a type)
    raise as_export_error(first) from first


def _of_real_numbers(
    program: Any, model: torch.nn.Module, args: Any, kwargs: Any, shapes: Any
) -> tuple[Any, NoRealForm | None]:
    """The program without complex numbers, or why it has them."""
    if not has_complex(program):
        return program, None

    def export(module: torch.nn.Module) -> Any:
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)

    try:
        return without_complex(program, model.forward, export), None
    except NoRealForm as error:
        return program, error
    except Exception as error:  # a rule that does not fit how the operator is called
        return program, NoRealForm(f"an operator ({telling(error)})")


@contextlib.contextmanager
def _named(model: torch.nn.Module, returned: Any) -> Iterator[None]:
    """The model returns its tensors as a plain dictionary, whatever class it returned them in."""
    plain = isinstance(returned, tuple) and type(returned) is tuple
    if isinstance(returned, torch.Tensor) or (
        plain and all(isinstance(value, torch.Tensor) for value in returned)
        and len({id(value) for value in returned}) == len(returned)
    ):  # fmt: skip
        yield
        return
    original, own = model.forward, model.__dict__.get("forward")

    @functools.wraps(original)
    def forward(*arguments: Any, **named: Any) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, value in named_outputs(original(*arguments, **named)).items():
            twice = any(value is other for other in found.values())
            found[name] = value.clone() if twice else value
        return found

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if own is not None:
            model.forward = own


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch prints, logs and warns of while it exports."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Watch(logging.Handler):
    """Where the model's code fixed a size: torch logs it while the line runs.

    Attributes:
        places: The user's line that fixed it, by size.
    """

    _FIXED = re.compile(r"set_replacement (s\d+) = (\d+) ")

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.places: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        found = self._FIXED.match(record.getMessage())
        place = users_place() if found else None
        if found and place:
            self.places.setdefault(int(found[2]), place)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        logger = logging.getLogger(_LOGGER)
        level, propagates = logger.level, logger.propagate
        others = list(logger.handlers)
        logger.handlers[:] = [self]
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.handlers[:] = others
            logger.setLevel(level)
            logger.propagate = propagates


def _inputs_of(program: Any) -> list[Any]:
    wanted = list(program.graph_signature.user_inputs)
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name] for name in wanted if name in nodes]


def _check_free(program: Any, size: Any, what: str, name: str, watch: _Watch) -> None:
    """Refuse an axis that has one size only.

    Args:
        program: The traced program.
        size: Of the axis in it: a symbol if the axis is free.
        what: The axis, in words.
        name: Its name.
        watch: Of the trace.
    """
    text = str(size)
    for symbol, interval in program.range_constraints.items():
        if str(symbol) == text and interval.lower == interval.upper:
            text = str(interval.lower)
    if text.isdecimal():
        raise frozen(what if name != BATCH else "the batch axis", int(text), watch.places)


def frozen(what: str, size: int, places: Mapping[int, str] = {}) -> StepFailed:
    """The error of an axis that the model's code fixes.

    Args:
        what: Which axis.
        size: What it is fixed to.
        places: The user's line that fixed it, by size.
    """
    batch = what == "the batch axis"
    return StepFailed(
        f"{what} can't vary in the exported model: the model's code fixes it to {size}, the size "
        "that it was exported with",
        where=places.get(size),
        do=(
            "compute all samples in one tensor operation, without a Python loop over them"
            if batch
            else "use tensor operations instead of a Python loop over this axis"
        )
        + ", and sizes as x.shape gives them, not as int(), float() or numpy numbers",
    )
