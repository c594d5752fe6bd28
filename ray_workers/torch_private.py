"""Every reach into private parts of torch, and what for.

Nothing else in Hone uses `torch._...`, besides `runtimes/inductor_runtime.py`, which opens what
AOTInductor packed and travels without this file. A part that a new version moved is told by
`tests/ray_workers/test_torch_private.py`, and where a recipe needs it, by an error that names it:
none of them can be done without.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..recipe.errors import HoneError


def replicate() -> Callable[..., Any]:
    """Averages the gradients of a module whose parameters are DTensors already.

    `DistributedDataParallel` does not know DTensors, and `fully_shard` would shard them again.
    """
    part: Callable[..., Any]
    part = _part("torch.distributed._composable.replicate_with_fsdp", "replicate")
    return part


def flatten(mesh: Any, name: str) -> Any:
    """The axes of a device mesh as one: FSDP shards over one axis only."""
    import torch

    if not hasattr(mesh, "_flatten"):
        raise _gone(f"{type(mesh).__name__}._flatten of torch {torch.__version__}")
    return mesh._flatten(name)


def attention_operators() -> frozenset[Any]:
    """The operators that `scaled_dot_product_attention` ends in: none of them has a public name.

    Without one, selective recomputation does that attention again: slower, with the same result.
    """
    import torch

    names = (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
    found = (getattr(torch.ops.aten, name, None) for name in names)
    return frozenset(packet.default for packet in found if packet is not None)


def tree_leaves(tree: Any) -> list[Any]:
    """What a model gave, as the exporter goes through it; it names outputs in this order."""
    leaves: list[Any] = _part("torch.utils._pytree", "tree_leaves")(tree)
    return leaves


def make_package(program: Any, path: Path, settings: dict[str, Any]) -> None:
    """AOTInductor. Documented (https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html)
    and underscored all the same.
    """
    make = _part("torch._inductor", "aoti_compile_and_package")
    make(program, package_path=str(path), inductor_configs=settings)


@functools.cache
def _part(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _gone(f"{module}.{name}") from error


def _gone(part: str) -> HoneError:
    return HoneError(
        f"this version of torch does not have {part} any more",
        do="install the version that constraints.txt names",
    )
