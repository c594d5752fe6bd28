"""Parity: how far a candidate's outputs are from the trained model's."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: dB given where two outputs are the same to the last bit.
_LARGEST_SQNR = 200.0


def parity(reference: Array, candidate: Array) -> dict[str, float]:
    """Largest absolute error, cosine and signal-to-quantization-noise ratio of outputs (N, ...).

    SQNR is 10 log10 of the reference's energy over the energy of the difference, in dB.
    """
    truth = reference.astype(np.float64).ravel()
    found = candidate.astype(np.float64).ravel()
    noise = truth - found
    signal, error = float(truth @ truth), float(noise @ noise)
    norms = float(np.linalg.norm(truth) * np.linalg.norm(found))
    sqnr = _LARGEST_SQNR
    if error > 0:
        sqnr = min(sqnr, 10 * float(np.log10(signal / error))) if signal > 0 else -_LARGEST_SQNR
    return {
        "parity/max_abs_error": float(np.abs(noise).max()),
        "parity/cosine": float(truth @ found) / norms if norms > 0 else float(error == 0),
        "parity/sqnr_db": sqnr,
    }
