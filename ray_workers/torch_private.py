"""Every use of torch's private API, and its purpose.

Nothing else in Hone uses `torch._...`, except `runtimes/inductor_runtime.py`, which opens
AOTInductor's packages and is shipped without this file. If a new version moves a part,
`tests/ray_workers/test_torch_private.py` fails, and a recipe that needs it gets an error that names
it: there is no substitute for any of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
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
    """A model's outputs in the order in which the exporter names them."""
    leaves: list[Any] = _part("torch.utils._pytree", "tree_leaves")(tree)
    return leaves


def takes_graphs(operator: Any) -> bool:
    """Whether an operator of an exported program runs a part of the graph, as `no_grad` does."""
    return isinstance(operator, _part("torch._ops", "HigherOrderOperator"))


def oblivious_sizes() -> contextlib.AbstractContextManager[None]:
    """Sizes of 1 take the same path through a model as larger ones while it is exported."""

    part: Any = _part("torch.fx.experimental._config", "patch")
    context: contextlib.AbstractContextManager[None] = part(backed_size_oblivious=True)
    return context


@contextlib.contextmanager
def recurrent_operators(model: Any) -> Iterator[None]:
    """LSTM and GRU stay one operator each while a model is exported, for any length.

    torch would unroll them over the length of the example. Only their shapes are computed then, so
    what is traced must not be decomposed in another way before it is converted.
    """
    import torch

    def shapes(inputs: Any, states: Any, *settings: Any) -> tuple[Any, ...]:
        many = isinstance(states, tuple | list)
        states = list(states) if many else [states]
        both = 2 if settings[-2] else 1
        width = both * states[0].shape[-1]
        out = inputs.new_empty((inputs.shape[0], inputs.shape[1], width))
        return (out, *(state.new_empty(state.shape) for state in states))

    recurrent = [m for m in model.modules() if isinstance(m, torch.nn.LSTM | torch.nn.GRU)]
    if not recurrent or any(getattr(m, "proj_size", 0) for m in recurrent):
        yield
        return
    keys = [
        getattr(torch._C.DispatchKey, name) for name in ("CompositeImplicitAutograd", "Autograd")
    ]
    operators = [torch.ops.aten.lstm.input, torch.ops.aten.gru.input]
    before = [dict(operator.py_kernels) for operator in operators]
    try:
        for operator in operators:
            operator.py_kernels.update(dict.fromkeys(keys, shapes))
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernels in zip(operators, before, strict=True):
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def make_package(program: Any, path: Path, settings: dict[str, Any]) -> None:
    """AOTInductor's packaging. Its name has an underscore, but it is documented:
    https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html
    """
    make = _part("torch._inductor", "aoti_compile_and_package")
    make(program, package_path=str(path), inductor_configs=settings)


def program_schema() -> Any:
    """The dataclasses of a `torch.export` program's JSON, which say what it may consist of."""
    import torch._export.serde.schema as schema

    return schema


#: The module that registers the operators of programs that PT2E quantized.
DECOMPOSED = "torch.ao.quantization.fx._decomposed"


def operator_arguments(namespace: str, name: str, overload: str) -> list[str] | None:
    """Types of an operator's arguments; None if it has no kernel that a dispatcher knows.

    TorchScript's own functions (`aten::save`) are no operators in this sense.
    """
    import torch

    full = f"{namespace}::{name}" + ("" if overload == "default" else f".{overload}")
    if not torch._C._dispatch_has_kernel(full):
        return None
    wanted = "" if overload == "default" else overload
    for schema in torch._C._jit_get_schemas_for_operator(f"{namespace}::{name}"):
        if schema.overload_name == wanted:
            return [str(argument.type) for argument in schema.arguments]
    return None


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
