"""Independent seeds, one per purpose."""

from __future__ import annotations

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """A different seed for each combination."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed what torch draws on the processor and on a device.

    `torch.manual_seed` also seeds every kind of device that there might be, and formats a stack
    trace for each that is not there: most of a millisecond, each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
