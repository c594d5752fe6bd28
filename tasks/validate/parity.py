"""Parity: how far a candidate's outputs are from the trained model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ray_workers.model.sqnr import sqnr_db

Array = np.ndarray[Any, Any]


def parity(reference: Sequence[Array], candidate: Sequence[Array]) -> dict[str, float]:
    """Largest absolute error, cosine and signal-to-quantization-noise ratio of outputs.

    Args:
        reference: Batches of the trained model's outputs, each (N, ...); shapes may differ.
        candidate: The same of the candidate.
    """
    truth = np.concatenate([part.astype(np.float64).ravel() for part in reference])
    found = np.concatenate([part.astype(np.float64).ravel() for part in candidate])
    if not (np.isfinite(truth) & np.isfinite(found)).all():  # -inf where an output is masked
        same = (truth == found) | (np.isnan(truth) & np.isnan(found))
        truth, found = np.where(same, 0, truth), np.where(same, 0, found)
    noise = truth - found
    norms = float(np.linalg.norm(truth) * np.linalg.norm(found))
    return {
        "parity/max_abs_error": float(np.abs(noise).max()),
        "parity/cosine": float(truth @ found) / norms if norms > 0 else float(not noise.any()),
        "parity/sqnr_db": sqnr_db(truth, found),
    }
