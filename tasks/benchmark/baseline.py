"""The baseline of every benchmark: the trained model in PyTorch eager, what the user has today."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner like those of the targets.

    Args:
        folder: The weights.
        options: `threads`, `model` (the factory), `allowed`, and `code`, a folder or None.
    """
    import torch

    from ...ray_workers.data.calling import call_model, tensors
    from ...ray_workers.model.module import load_module
    from ...recipe.factories import Allowed, use_code

    if options.get("code"):
        use_code(Path(options["code"]))
    torch.set_num_threads(int(options["threads"]))
    allowed = Allowed.model_validate(options["allowed"])
    model = load_module(options["model"], allowed, folder)

    def run(inputs: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return call_model(model, tensors(inputs)).numpy()

    return run
