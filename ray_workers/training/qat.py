"""Quantization-aware training: the rounding of int8 in the forward pass, by torchao (PT2E).

https://docs.pytorch.org/ao/stable/pt2e_quantization/pt2e_quant_qat.html. The model is exported,
batch norms are folded into the convolutions that they follow, and fake quantization of weights (one
scale per channel) and activations is inserted; the weights keep their names.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from ...recipe.errors import InputError, StepFailed
from ...recipe.library_messages import telling
from ..data.calling import (
    Arrays,
    call_model,
    choose_output,
    chosen_output,
    keep_form,
    tensors,
)
from ..model.axes import Varying
from ..model.real_inputs import RealInputs
from ..model.tracing import example_of, trace
from .qat_graph import floats_alone, in_torchaos_form

#: Dropout and batch norms are switched back to training by torchao.
_ONLY_IN_TRAINING = (
    "qat: the model can't be exported as it is in training; what its code does in training alone "
    "(masks, layers that are left out at random) is left out, but for dropout and batch norms"
)


def with_fake_quantization(model: nn.Module, inputs: RealInputs) -> tuple[nn.Module, list[str]]:
    """The model as a graph that rounds as a static int8 quantization will, and notes.

    Args:
        model: Any module that can be exported.
        inputs: Of the training samples, with the axes that vary.

    Raises:
        InputError: torchao is not installed.
        StepFailed: The model can't be exported, or torchao can't prepare it.
    """
    try:
        logging.getLogger("torchao").setLevel(logging.ERROR)
        from torchao.quantization.pt2e import allow_exported_model_train_eval
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    except ModuleNotFoundError:
        raise InputError(
            "quantization-aware training needs the package torchao, which is not installed",
            where="qat",
            do="pip install 'prefect-hone[torchao]'",
        ) from None
    example = example_of([*inputs.batches, inputs.stacked])
    sample = tensors(example)
    graph, returned, notes = _exported(model, example, inputs.varying)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantizer = x86.X86InductorQuantizer().set_global(
                x86.get_default_x86_inductor_quantization_config(is_qat=True)
            )
            annotate = quantizer.annotate
            quantizer.annotate = lambda model: floats_alone(annotate(model))
            prepared: nn.Module = prepare_qat_pt2e(in_torchaos_form(graph), quantizer)
    except Exception as error:
        again = _called_again(model, sample)
        if again:
            raise StepFailed(
                f"{', '.join(again[:4])}: called several times in one forward pass, which torchao "
                f"can't prepare: {telling(error)}",
                where="qat",
                do="leave the pass out: static-int8 quantizes such a model without it",
            ) from error
        raise StepFailed(
            f"torchao can't prepare the model for quantization-aware training: {telling(error)}",
            where="qat",
            do="leave the pass out: static-int8 quantizes such a model without it",
        ) from error
    allow_exported_model_train_eval(prepared)
    keep_form(choose_output(prepared, chosen_output(model)), returned)
    with torch.no_grad():  # observers get their shapes now: replicas must have the same ones
        call_model(prepared, sample)
    return prepared, notes


def _exported(
    model: nn.Module, example: Arrays, varying: Sequence[Varying]
) -> tuple[fx.GraphModule, Any, list[str]]:
    """The model's graph while it trains; else, with a note, as it is in evaluation. And what the
    model returned.
    """

    def traced() -> tuple[fx.GraphModule, Any]:
        found = trace(model, example, varying)
        # Guards refuse one sample also in evaluation, as batch norm can't take it in training.
        return found.program.module(check_guards=False), found.returned

    try:
        model.train()
        return *traced(), []
    except StepFailed as error:
        try:
            model.eval()
            return *traced(), [_ONLY_IN_TRAINING]
        except StepFailed:
            raise StepFailed(
                error.what, where=error.where or "qat", do=f"leave the pass out, or: {error.do}"
            ) from error
    finally:
        model.train()


def _called_again(model: nn.Module, sample: Any) -> list[str]:
    """Layers with weights that one forward pass calls more than once."""
    calls: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1

        return hook

    handles = [
        module.register_forward_hook(count(name))
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with torch.no_grad():
            call_model(model, sample)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name, number in calls.items() if number > 1]
