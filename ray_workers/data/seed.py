"""Seeds that are told apart by what they are for."""

from __future__ import annotations

import numpy as np


def mixed_seed(*parts: int) -> int:
    """A seed of its own for each combination."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
