"""Parity: how far a candidate's outputs are from the trained model's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ray_workers.model.sqnr import sqnr_db

Array = np.ndarray[Any, Any]


def parity(reference: Array, candidate: Array) -> dict[str, float]:
    """Largest absolute error, cosine and signal-to-quantization-noise ratio of outputs (N, ...)."""
    truth = reference.astype(np.float64).ravel()
    found = candidate.astype(np.float64).ravel()
    noise = truth - found
    norms = float(np.linalg.norm(truth) * np.linalg.norm(found))
    return {
        "parity/max_abs_error": float(np.abs(noise).max()),
        "parity/cosine": float(truth @ found) / norms if norms > 0 else float(not noise.any()),
        "parity/sqnr_db": sqnr_db(truth, found),
    }
