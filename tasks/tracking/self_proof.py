"""A version's own proof (`runtimes/proof.py`), run on this machine in a process of its own.

Only where its runtime can be opened here: a registry's machine need not have every runtime. What is
run is the artifact that the registry's bytes hold, after they were compared with the measured ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...recipe.strict import Strict
from ...runtimes.child_process import ChildProcess
from ...runtimes.circumstances import circumstances
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.errors import RuntimeFailed
from ...runtimes.isolated.environment import environment
from ...runtimes.opening import Runtime, is_importable, runtime, runtime_module
from ...runtimes.proof import PROOF, UNPROVEN, Proof, Unproven, warns
from ...runtimes.served_model import DATA, DESCRIPTION, FILES, ModelDescription

_TIMEOUT = 120.0  # s, for opening it and one call


class SelfProof(Strict):
    """Whether a version gives the outputs here that were measured.

    Attributes:
        outcome: `skipped` where it carries no proof, or its runtime can't be opened here.
        sentence: The outcome in words.
    """

    outcome: Literal["proven", "refused", "skipped"]
    sentence: str

    @property
    def refuses(self) -> bool:
        """Whether it must not be used here; `HONE_UNPROVEN=warn` goes on."""
        return self.outcome == "refused" and not warns()


def prove_version(model: Path) -> SelfProof:
    """Run the proof that a model carries.

    Args:
        model: The folder of the model, whose files are known to be the measured ones.
    """
    data = model / DATA
    if not (data / DESCRIPTION).is_file():
        return _skipped("it is not a model of Hone's")
    try:
        described = ModelDescription.read(data)
        if described.proof is None:
            return _skipped("it carries no proof")
        proof = Proof.read(data / PROOF)
        found = runtime(CompiledArtifact.read(data / FILES).runtime)
    except RuntimeFailed as failed:
        return SelfProof(outcome="refused", sentence=f"its proof can't be read: {failed.what}")
    python = None
    if not is_importable(found):
        isolated = environment(found.ENVIRONMENT) if found.ENVIRONMENT else None
        if isolated is None or not isolated.is_made:
            return _skipped(f"{' and '.join(found.LIBRARIES.values())} is not installed here")
        python = isolated.interpreter
    threads = int(described.options.get("threads", 1))
    return _proven(found, proof, data / FILES, threads, python)


def _proven(
    found: Runtime,
    proof: Proof,
    artifact: Path,
    threads: int,
    python: tuple[str, dict[str, str]] | None,
) -> SelfProof:
    loader = f"{runtime_module(found.NAME)}:load"
    with ChildProcess(loader, artifact, {"threads": threads}, _TIMEOUT, python) as child:
        try:
            child.wait_loaded()
        except RuntimeFailed as failed:
            return _skipped(f"its runtime can't be opened here: {failed.what}")
        try:
            distance = proof.require(child.predict, circumstances(found, threads))
        except Unproven as refusal:
            return SelfProof(outcome="refused", sentence=refusal.what)
    return SelfProof(
        outcome="proven",
        sentence=f"it gives the outputs here that were measured (SQNR {distance:.0f} dB, at least "
        f"{proof.least_db:.0f} dB is within what was measured)",
    )


def what_to_do() -> str:
    """What helps after a refusal."""
    return (
        "do it on a machine like the one that measured it, measure it on one like this "
        f"(hone run), or go on with {UNPROVEN}=warn"
    )


def _skipped(why: str) -> SelfProof:
    return SelfProof(outcome="skipped", sentence=f"its proof was not run: {why}")
