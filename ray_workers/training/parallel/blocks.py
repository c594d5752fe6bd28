"""The blocks of a model: the parts that are sharded, compiled and recomputed one by one."""

from __future__ import annotations

from torch import nn

_SEQUENCES = (nn.ModuleList, nn.Sequential)


def find_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """A model's blocks by name, in order: the layers of a transformer, the units of a ResNet.

    A block is a member of an `nn.ModuleList` or `nn.Sequential` with children and parameters. A
    list inside a block belongs to the block; a list inside a list is searched.

    Returns:
        Empty if the model has no such sequence.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if not isinstance(module, _SEQUENCES):
            continue
        if any(name.startswith(f"{block}.") or name == block for block in found):
            continue
        for child, part in module.named_children():
            if _is_block(part):
                found[f"{name}.{child}" if name else child] = part
    return found


def _is_block(part: nn.Module) -> bool:
    has_parameters = any(True for _ in part.parameters())
    is_list_of_blocks = isinstance(part, _SEQUENCES) and any(_is_block(p) for p in part.children())
    return has_parameters and any(True for _ in part.children()) and not is_list_of_blocks
