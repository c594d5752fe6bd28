"""An optimizer's state by parameter names, so that another mesh can load it."""

from __future__ import annotations

import torch

#: Prefix of it in a checkpoint.
OPTIMIZER = "optimizer/"
State = dict[str, torch.Tensor]


def optimizer_state(
    optimizers: list[torch.optim.Optimizer], parameters: dict[str, torch.nn.Parameter]
) -> State:
    """An optimizer's state by the names of the parameters in the whole model.

    Args:
        optimizers: This worker's.
        parameters: Its parameters by their names in the whole model.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    tensors: State = {}
    for optimizer in optimizers:
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                if value is not None:
                    made = value if isinstance(value, torch.Tensor) else torch.tensor(value)
                    tensors[f"{OPTIMIZER}{names[id(parameter)]}/{key}"] = made
    return tensors


def blank_optimizer_state(
    optimizers: list[torch.optim.Optimizer],
    parameters: dict[str, torch.nn.Parameter],
    names: dict[str, tuple[torch.Size, torch.dtype]],
) -> State:
    """Allocate the state that a checkpoint has for this worker's parameters; `load` fills it.

    State with the shape of its parameter is sharded like the parameter.
    """
    owners = {id(p): o for o in optimizers for g in o.param_groups for p in g["params"]}
    state: State = {}
    for name, parameter in parameters.items():
        owner = owners.get(id(parameter))
        if owner is None:
            continue
        prefix = f"{OPTIMIZER}{name}/"
        for full, (size, dtype) in names.items():
            if not full.startswith(prefix):
                continue
            if size == parameter.shape:
                value = torch.zeros_like(parameter.detach(), dtype=dtype)
            else:
                value = torch.zeros(size, dtype=dtype)
            owner.state[parameter][full.removeprefix(prefix)] = value
            state[full] = value
    return state
