"""Distance of outputs from the expected ones, as a ratio of energies."""

from __future__ import annotations

from typing import Any

import numpy as np

#: The largest value (dB), also for bit-identical outputs.
LARGEST_SQNR = 200.0


def sqnr_db(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Signal-to-quantization-noise ratio of outputs (N, ...), in dB.

    10 log10 of the energy of what is expected over the energy of the difference; -200 where
    outputs are NaN or infinite and should not be.
    """
    truth = expected.astype(np.float64).ravel()
    other = found.astype(np.float64).ravel()
    same = (truth == other) | (np.isnan(truth) & np.isnan(other))  # infinities, too
    noise = np.where(same, 0.0, np.where(same, 0.0, truth) - np.where(same, 0.0, other))
    truth = np.where(np.isfinite(truth), truth, 0.0)
    signal, error = float(truth @ truth), float(noise @ noise)
    if error == 0:
        return LARGEST_SQNR
    if signal == 0 or not np.isfinite(error):
        return -LARGEST_SQNR
    return min(LARGEST_SQNR, 10 * float(np.log10(signal / error)))
