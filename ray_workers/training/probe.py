"""What a pass over a few samples tells about a model, before it is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ...recipe.errors import InputError
from ..data.calling import arguments, call_model, outputs_for_loss

_ONE_VALUE = "more than 1 value per channel"


def without_gradient(
    model: nn.Module, inputs: Any, loss: Callable[[Any], torch.Tensor], every: bool
) -> list[str]:
    """Names of the trainable parameters that no gradient reaches: see `gradients`."""
    found = gradients(model, inputs, loss, every)
    return [name for name, grad in found.items() if grad is None]


def gradients(
    model: nn.Module, inputs: Any, loss: Callable[[Any], torch.Tensor], every: bool
) -> dict[str, torch.Tensor | None]:
    """Gradients of the trainable parameters by name, from a pass in training mode.

    The model is left as it was, and so is the random state.

    Args:
        model: The whole model, with at least one trainable parameter.
        inputs: Of a small batch.
        loss: From what it gets of the model's outputs to a scalar.
        every: Whether it gets all of them, not the main one.

    Raises:
        InputError: Nothing can be trained: all is frozen, or the loss does not depend on it.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    refuse_frozen(model)
    with _untouched(model), torch.enable_grad():
        value = loss(outputs_for_loss(model, inputs, every))
        if not value.requires_grad:
            raise InputError(
                f"the loss does not depend on any parameter, neither {trainable[0][0]} nor another",
                where="model.factory",
                do="look for detach(), torch.no_grad() or numpy in the model's forward or the loss",
            )
        found = torch.autograd.grad(value, [p for _, p in trainable], allow_unused=True)
    return {name: grad for (name, _), grad in zip(trainable, found, strict=True)}


def refuse_sparse(found: dict[str, torch.Tensor | None]) -> None:
    """Refuse gradients of embeddings with `sparse=True`, which most optimizers can't take.

    Raises:
        InputError: There is one.
    """
    names = [name for name, grad in found.items() if grad is not None and grad.is_sparse]
    if names:
        raise InputError(
            f"sparse gradients are not supported: {', '.join(names[:3])}",
            where="model.factory",
            do="build these embeddings with sparse=False",
        )


def refuse_frozen(model: nn.Module) -> None:
    """Refuse to train a model without a trainable parameter.

    Raises:
        InputError: All are frozen, or there are none.
    """
    names = [name for name, _ in model.named_parameters()]
    if any(p.requires_grad for p in model.parameters()):
        return
    frozen = f"all {len(names)} parameters are frozen ({names[0]}, ...)" if names else (
        "the model has no parameters")  # fmt: skip
    raise InputError(
        f"nothing can be trained: {frozen}",
        where="model.factory",
        do="leave requires_grad on for what should be trained, or set train.epochs to 0 to use the "
        "model as it is",
    )


def dtype_advice(model: nn.Module, inputs: Any) -> str | None:
    """What to do about inputs whose type is not that of the weights; None if it is."""
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    positional, named = arguments(inputs)
    for value in (*positional, *named.values()):
        if not isinstance(value, torch.Tensor):
            continue
        if wanted is not None and value.is_floating_point() and value.dtype != wanted:
            return (
                f"the inputs are {_name(value.dtype)} and the model's weights {_name(wanted)}: "
                f"convert the data (x.to(torch.{_name(wanted)})), or the model in its factory"
            )
        if value.dtype == torch.bool:
            return "the inputs are bool: convert what the model computes with (x.float())"
    return None


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def least_samples(model: nn.Module, inputs: Any) -> int:
    """The fewest samples of a micro-batch: 2 if batch norm can't take one, else 1.

    Args:
        model: The whole model; left as it was.
        inputs: Of a small batch.
    """
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return 1
    one = _first(inputs)
    with _untouched(model), torch.no_grad():
        try:
            call_model(model, one)
        except ValueError as error:
            return 2 if _ONE_VALUE in str(error) else 1
        except RuntimeError:
            return 1  # it is told where the model is trained
    return 1


def _first(inputs: Any) -> Any:
    """A batch of the first sample."""
    if isinstance(inputs, Mapping):
        return {name: _first(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(_first(value) for value in inputs)
    return None if inputs is None else inputs[:1]


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Training mode, after which buffers, mode and random state are what they were."""
    kept = {name: value.detach().clone() for name, value in model.named_buffers()}
    modes = [(module, module.training) for module in model.modules()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        model.train()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for name, value in model.named_buffers():
                    if name in kept and kept[name].shape == value.shape:
                        value.copy_(kept[name])
