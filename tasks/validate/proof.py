"""The proofs that a candidate's model may carry, measured through the candidate's own runtime.

There are two: of real rows of the test split, and of random rows that tell nothing of the data but
their spread. The recipe says which one goes with the model (`registry.proof`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...ray_workers.store.file_names import REAL_PROOF, SYNTHETIC_PROOF
from ...recipe.errors import StepFailed
from ...runtimes.circumstances import circumstances
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.opening import runtime
from ...runtimes.predict import Arrays, Predict, main_of
from ...runtimes.proof import MOST_BYTES, ROWS, Proof, Synthetic

_SEED = 20_240_229


def write_proofs(
    folder: Path, model: Path, real: Arrays, predict: Predict, parity_db: float, threads: int
) -> None:
    """Write both proofs; no synthetic one if the model can't take random inputs.

    Args:
        folder: Where to.
        model: The candidate.
        real: Rows of the test split, by input.
        predict: The candidate, opened.
        parity_db: Distance of its outputs from the trained model's (dB).
        threads: That it was opened with.
    """
    measured = circumstances(runtime(CompiledArtifact.read(model).runtime), threads)
    row = max(1, sum(values[:1].nbytes for values in real.values()))
    rows = max(1, min(ROWS, MOST_BYTES // row))
    inputs = {name: np.ascontiguousarray(values[:rows]) for name, values in real.items()}
    Proof.of(inputs, main_of(predict(inputs)), parity_db, measured).write(folder / REAL_PROOF, None)
    like = {name: Synthetic.like(values, rows) for name, values in real.items()}
    drawn = {name: one.values(_SEED + i) for i, (name, one) in enumerate(like.items())}
    try:
        outputs = main_of(predict(drawn))
    except StepFailed:
        return
    if np.isfinite(outputs).all():
        proof = Proof.of(drawn, outputs, parity_db, measured)
        proof.write(folder / SYNTHETIC_PROOF, (_SEED, like))
