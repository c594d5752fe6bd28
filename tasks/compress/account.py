"""What a pass changed in a module: parameters, operations, zeros and bytes, whole and by layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...ray_workers.data.splits import SampleBatch
from ...ray_workers.model.flops import forward_flops
from ...ray_workers.workspace import Result
from ..specs.compress import Coverage, LayerChange, LayerFact, ModulePassFacts


@dataclass(frozen=True)
class Account:
    """Counts of a module.

    Attributes:
        parameters: A count.
        nonzero: Those that are not zero (a count).
        bytes: Of all parameters.
        flops: Of a forward pass over one sample; a multiply-add is two.
        layers: Each layer that has weights.
    """

    parameters: int
    nonzero: int
    bytes: int
    flops: float
    layers: dict[str, LayerFact]


def account(model: nn.Module, samples: SampleBatch) -> Account:
    """Count a module.

    Args:
        model: The module.
        samples: A few samples, to count operations with.
    """
    layers: dict[str, LayerFact] = {}
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            layers[name] = LayerFact(
                parameters=sum(p.numel() for p in own),
                zeros=sum(int((p == 0).sum()) for p in own if p.ndim >= 2),
                bytes=sum(p.numel() * p.element_size() for p in own),
            )
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    zeros = sum(layer.zeros for layer in layers.values())
    return Account(
        parameters=total,
        nonzero=total - zeros,
        bytes=sum(p.numel() * p.element_size() for p in parameters),
        flops=forward_flops(model, samples.inputs) / samples.count,
        layers=layers,
    )


def changed(
    label: str,
    before: Account,
    after: Account,
    ranks: dict[str, int] | None = None,
    coverage: Coverage | None = None,
) -> Result:
    """A step's result with what its pass changed.

    Args:
        label: Of the pass, in names of metrics and parameters.
        before: The account before it.
        after: The account after it.
        ranks: Of factorized layers.
        coverage: What the pass did with each layer.
    """
    sparsity = 1 - after.nonzero / max(1, after.parameters)
    metrics = {
        f"{label}/parameters": float(after.parameters),
        f"{label}/parameters_kept": after.parameters / max(1, before.parameters),
        f"{label}/sparsity": sparsity,
        f"{label}/bytes": float(after.bytes),
    }
    if before.flops:
        metrics[f"{label}/flops"] = after.flops
        metrics[f"{label}/flops_kept"] = after.flops / before.flops
    return Result(
        metrics=metrics,
        facts=ModulePassFacts(
            layers={
                name: LayerChange(before=before.layers.get(name), after=after.layers.get(name))
                for name in sorted({*before.layers, *after.layers})
                if before.layers.get(name) != after.layers.get(name)
            },
            ranks=ranks or {},
            coverage=coverage,
        ),
    )
