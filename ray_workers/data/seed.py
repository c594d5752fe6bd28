"""Independent seeds, one per purpose."""

from __future__ import annotations

import numpy as np


def mixed_seed(*parts: int) -> int:
    """A different seed for each combination."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
