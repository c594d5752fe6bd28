"""The private parts of torch that Hone uses are where it looks for them, and do what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import prefect_hone
import pytest
import torch
from prefect_hone.ray_workers import torch_private
from prefect_hone.recipe.errors import HoneError
from torch import nn

PACKAGE = Path(prefect_hone.__file__).parent


def test_nothing_else_reaches_into_torch() -> None:
    reaches = re.compile(r"\btorch(\.\w+)*\._[a-z]|_aten\._|\._flatten\(")
    found = [
        str(path.relative_to(PACKAGE))
        for room in ("recipe", "runtimes", "ray_workers", "tasks", "flows")
        for path in (PACKAGE / room).rglob("*.py")
        if reaches.search(path.read_text())
    ]
    assert found == ["runtimes/inductor_runtime.py", "ray_workers/torch_private.py"]


@pytest.fixture
def alone(tmp_path: Path):
    """A process group of this process."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_gradients_of_a_split_model_are_averaged(alone: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model = nn.Linear(3, 2)
    mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
    torch_private.replicate()(model, mesh=mesh, mp_policy=MixedPrecisionPolicy())
    model(torch.ones(4, 3)).sum().backward()
    gradient = model.weight.grad
    assert gradient is not None
    assert torch.equal(gradient.full_tensor(), torch.full((2, 3), 4.0))


def test_axes_become_one(alone: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("shard", "context"))
    flat = torch_private.flatten(mesh, "both")
    assert (flat.ndim, flat.mesh_dim_names) == (1, ("both",))


def test_attention_on_this_machine_ends_in_a_known_operator() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            seen.add(operator)
            return operator(*args, **(kwargs or {}))

    seen: set[object] = set()
    assert len(torch_private.attention_operators()) == 3
    query = torch.randn(1, 2, 8, 16, requires_grad=True)
    with Watch():
        nn.functional.scaled_dot_product_attention(query, query, query)
    assert seen & torch_private.attention_operators()


def test_leaves_come_in_the_exporters_order() -> None:
    a, b, c = torch.zeros(3)
    leaves = torch_private.tree_leaves({"x": a, "more": (b, [c])})
    assert [leaf is known for leaf, known in zip(leaves, (a, b, c), strict=True)] == [True] * 3


def test_aotinductor_is_there() -> None:
    """That it compiles and runs is in `tests/tasks/test_targets.py`."""
    import inspect

    make = torch_private._part("torch._inductor", "aoti_compile_and_package")
    assert {"package_path", "inductor_configs"} <= set(inspect.signature(make).parameters)
    from torch._inductor import aoti_load_package  # as runtimes/inductor_runtime.py imports it

    assert callable(aoti_load_package)


def test_what_is_gone_is_named() -> None:
    with pytest.raises(HoneError, match=r"does not have torch\.nn\.Gone any more") as caught:
        torch_private._part("torch.nn", "Gone")
    assert "constraints.txt" in str(caught.value.do)
    with pytest.raises(HoneError, match="_flatten"):
        torch_private.flatten(object(), "both")


def test_a_recurrent_layer_is_one_operator_while_it_is_exported() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True)).eval()
    x = torch.randn(2, 5, 3)
    expected = model(x)[0]
    auto = torch.export.Dim.AUTO
    with torch_private.recurrent_operators(model), torch_private.oblivious_sizes():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: auto, 1: auto},))
    assert "aten.lstm.input" in {str(node.target) for node in program.graph.nodes}
    assert torch.equal(model(x)[0], expected), "torch's own is back"
    longer = torch.randn(3, 9, 3)
    assert torch.allclose(program.module()(longer)[0], model(longer)[0])
