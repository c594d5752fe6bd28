"""A torch program as a JAX function, through torchax. Runs in the environments `jax` and
`tensorflow`.

https://github.com/google/torchax
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: An operator that no model has, in place of those that torch no longer has.
_NEVER = "hspmm"


def as_jax(path: Path) -> tuple[list[Any], Callable[..., Any], list[Any]]:
    """A program's weights, a JAX function of weights and inputs, and the shapes of its inputs.

    Args:
        path: A `torch.export` program.

    Returns:
        Arrays; a function `f(weights, inputs)` that returns a tuple of outputs; and a
        `jax.ShapeDtypeStruct` for each input, whose first axis is symbolic if it is dynamic.
    """
    import jax
    import torch

    jax.config.update("jax_enable_x64", True)  # 64-bit integers are inputs as they are
    with _old_operators():
        from torchax.export import exported_program_to_jax
    program = torch.export.load(path)
    weights, function = exported_program_to_jax(program)
    return list(weights), lambda w, inputs: tuple(function(w, inputs)), _shapes(program)


def _shapes(program: Any) -> list[Any]:
    """The shape of each input; a dynamic axis is the batch."""
    import jax
    import jax.export
    import torch

    (batch,) = jax.export.symbolic_shape("batch")
    wanted = set(program.graph_signature.user_inputs)
    values = [
        n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted
    ]
    return [
        jax.ShapeDtypeStruct(
            [batch if isinstance(size, torch.SymInt) else size for size in value.shape],
            torch.empty(0, dtype=value.dtype).numpy().dtype,
        )
        for value in values
    ]


@contextmanager
def _old_operators() -> Iterator[None]:
    """torchax 0.0.13 names overloads for named tensors, which torch 2.13 no longer has.

    It only lists them in tables, so any operator can take their place.
    """
    import torch

    packet: Any = type(torch.ops.aten.add)
    found = packet.__getattr__

    def lenient(self: Any, name: str) -> Any:
        try:
            return found(self, name)
        except AttributeError:
            if name.startswith("__"):
                raise
            return getattr(torch.ops.aten, _NEVER).default

    packet.__getattr__ = lenient
    try:
        yield
    finally:
        packet.__getattr__ = found
