"""What a pass on a module changed: parameters, operations, zeros and bytes, whole and by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...ray_workers.data.calling import call_model
from ...ray_workers.workspace import Result
from ..specs.compress import LayerChange, ModulePassFacts


def account(model: nn.Module, sample: Any, samples: int) -> dict[str, Any]:
    """Count a module.

    Args:
        model: The module.
        sample: Inputs of a few samples.
        samples: How many.

    Returns:
        `parameters`, `nonzero`, `bytes`, `flops` (of a forward pass over one sample; a
        multiply-add is two), and `layers`: for each with weights, its parameters, zeros and bytes.
    """
    layers: dict[str, dict[str, int]] = {}
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            layers[name] = {
                "parameters": sum(p.numel() for p in own),
                "zeros": sum(int((p == 0).sum()) for p in own if p.ndim >= 2),
                "bytes": sum(p.numel() * p.element_size() for p in own),
            }
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    zeros = sum(layer["zeros"] for layer in layers.values())
    return {
        "parameters": total,
        "nonzero": total - zeros,
        "bytes": sum(p.numel() * p.element_size() for p in parameters),
        "flops": flops(model, sample) / samples,
        "layers": layers,
    }


def flops(model: nn.Module, sample: Any) -> float:
    """Floating-point operations of a forward pass, as torch counts them; 0 where it can't."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call_model(model, sample)
        return float(counter.get_total_flops())
    except (RuntimeError, NotImplementedError, TypeError):
        return 0.0
    finally:
        model.train(training)


def changed(
    label: str,
    before: dict[str, Any],
    after: dict[str, Any],
    ranks: dict[str, int] | None = None,
) -> Result:
    """A step's result that tells what its pass did.

    Args:
        label: Of the pass, as metrics and parameters name it.
        before: What `account` said before it.
        after: And after it.
        ranks: Of factorized layers.
    """
    sparsity = 1 - after["nonzero"] / max(1, after["parameters"])
    metrics = {
        f"{label}/parameters": float(after["parameters"]),
        f"{label}/parameters_kept": after["parameters"] / max(1, before["parameters"]),
        f"{label}/sparsity": sparsity,
        f"{label}/bytes": float(after["bytes"]),
    }
    if before["flops"]:
        metrics[f"{label}/flops"] = after["flops"]
        metrics[f"{label}/flops_kept"] = after["flops"] / before["flops"]
    return Result(
        metrics=metrics,
        facts=ModulePassFacts(
            layers={
                name: LayerChange(
                    before=before["layers"].get(name), after=after["layers"].get(name)
                )
                for name in sorted({*before["layers"], *after["layers"]})
                if before["layers"].get(name) != after["layers"].get(name)
            },
            ranks=ranks or {},
        ),
    )
