"""The baseline of every benchmark: the trained model in PyTorch eager, what the user has today."""

from __future__ import annotations

import sys
from pathlib import Path

from ...runtimes.predict import Array, Arrays, LoadOptions, Predict


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open it, as the runtimes open a candidate.

    Args:
        folder: The weights.
        options: `threads`, `model` (the factory), `allowed`, and `code`, a folder or None.
    """
    import torch

    from ...ray_workers.data.calling import call_model, tensors
    from ...ray_workers.model.module import load_module
    from ...recipe.factories import Allowed, use_code
    from ...recipe.model import ModelFactory
    from ...runtimes.outside_code import guard_imports

    code = options.get("code")
    if code:
        sys.dont_write_bytecode = True  # an artifact stays as it is
        use_code(Path(code))
    torch.set_num_threads(int(options["threads"]))
    allowed = Allowed.model_validate(options["allowed"])
    guard_imports(allowed.outside, code)
    model = load_module(ModelFactory.model_validate(options["model"]), allowed, folder)

    def predict(inputs: Arrays) -> Array:
        with torch.inference_mode():
            output = call_model(model, tensors(inputs))
            found: Array = (output.float() if output.is_floating_point() else output).numpy()
            return found

    return predict
