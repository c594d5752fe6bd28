"""Compiled models beside each other on this machine, outside a run: what `hone bench` measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from ...ray_workers.machine_lock import alone
from ...ray_workers.runtime_process import hone_errors, interpreter_for
from ...recipe.benchmark import Benchmark, Offline
from ...recipe.errors import InputError
from ...recipe.strict import Strict
from ...runtimes.compiled_artifact import SETTINGS, CompiledArtifact
from ...runtimes.home import hone_home
from ...runtimes.opening import is_importable, runtime, runtime_module
from ...runtimes.predict import Arrays
from ...runtimes.proof import PROOF, Proof
from ...runtimes.served_model import DESCRIPTION, FILES, ModelDescription
from ..specs.benchmark import ColdStart, OtherLoad, ScenarioResult, Timing
from .benchmark import batches_of, timing
from .scenarios import Scenarios
from .session import Entrant, Timings, run_session

#: Where MLflow's model folder has what Hone wrote.
_DATA = Path("data") / "data"


@dataclass(frozen=True)
class Compiled:
    """A compiled model to measure.

    Attributes:
        name: What the table calls it.
        folder: Its artifact.
        runtime: Its runtime.
        proof: The folder of its proof, whose inputs can be measured with; None if it has none.
    """

    name: str
    folder: Path
    runtime: str
    proof: Path | None = None

    @staticmethod
    def read(name: str, folder: Path) -> Compiled:
        """Find the artifact in a folder: an artifact itself, or an MLflow model of Hone's.

        Raises:
            InputError: There is none.
        """
        data = next((f for f in (folder, folder / _DATA) if (f / DESCRIPTION).is_file()), None)
        artifact = folder if data is None else data / FILES
        if not (artifact / SETTINGS).is_file():
            raise InputError(
                "this is no compiled model of Hone's",
                where=name,
                do="give NAME@ALIAS, NAME/VERSION, a downloaded model, or a folder with "
                f"{SETTINGS}; of other files, `hone run` makes one (model.source)",
            )
        with hone_errors():
            proven = data is not None and ModelDescription.read(data).proof is not None
            read = CompiledArtifact.read(artifact)
        proof = data / PROOF if data is not None and proven else None
        return Compiled(name, artifact, read.runtime, proof)

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Row(Strict):
    """What was measured of a model.

    Attributes:
        name: Of the model.
        runtime: Its runtime.
        size_bytes: Of its files.
        memory_bytes: Peak resident memory of its process; None if it failed.
        gpu_memory_bytes: Memory of its process on GPUs; None if it is not told.
        cold: Cold start of its process.
        timings: By batch size; the ratio is to the first model.
        scenarios: What it reached, by kind of scenario.
        failed: Why it could not be measured; None if it was.
    """

    name: str
    runtime: str
    size_bytes: int
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    cold: ColdStart | None = None
    timings: dict[int, Timing] = Field(default_factory=dict)
    scenarios: dict[str, ScenarioResult] = Field(default_factory=dict)
    failed: str | None = None


class SideBySide(Strict):
    """Attributes:
    rows: Of each model, in the order in which they were given.
    others: What other work on the machine did to the measurement.
    """

    rows: list[Row]
    others: OtherLoad


def inputs_for(models: list[Compiled], file: Path | None) -> Arrays:
    """Inputs (N, ...) by name: a file's, or those of the first model's proof.

    Args:
        models: What is measured.
        file: An `.npz` with an array for each input; None: a model's own.

    Raises:
        InputError: There are none, or the file can't be read.
    """
    if file is None:
        proof = next((model.proof for model in models if model.proof is not None), None)
        if proof is None:
            raise InputError(
                "none of these models carries inputs",
                where=models[0].name,
                do="give --inputs FILE.npz, with an array (N, ...) for each input by its name",
            )
        with hone_errors():
            return Proof.read(proof).inputs
    try:
        with np.load(file, allow_pickle=False) as held:
            found = {name: np.ascontiguousarray(held[name]) for name in held.files}
    except (OSError, ValueError, AttributeError, TypeError, EOFError) as error:
        raise InputError(
            "the inputs can't be read: this is no .npz of plain arrays",
            where=str(file),
            do="numpy.savez writes one",
        ) from error
    if not found or len({len(values) if values.ndim else -1 for values in found.values()}) != 1:
        raise InputError(
            "the inputs have no common number of samples",
            where=str(file),
            do="give an array (N, ...) for each input",
        )
    return found


def side_by_side(
    models: list[Compiled],
    inputs: Arrays,
    asked: Benchmark,
    *,
    note: Callable[[str], None] = lambda _: None,
    progress: Callable[[float], None] = lambda _: None,
) -> SideBySide:
    """Time compiled models against the first of them, as the benchmark of a run does.

    Args:
        models: What is timed.
        inputs: Real inputs (N, ...) by name, repeated where a batch needs more.
        asked: How they are timed, and in which scenarios.
        note: Called with messages for the user.
        progress: Called with the share that is done.

    Raises:
        HoneError: The first model can't be measured. Others that fail are told in their rows.
    """
    entrants = [
        Entrant(
            model.name,
            f"{runtime_module(model.runtime)}:load",
            model.folder,
            {"threads": asked.threads},
            interpreter_for(_environment(model.runtime), note),
        )
        for model in models
    ]
    batches = {size: batches_of(inputs, size) for size in asked.batch_sizes}
    with alone(note, hone_home()):
        found = run_session(
            entrants,
            batches,
            asked.seconds,
            asked.launches,
            progress,
            cold=True,
            scenarios=_scenarios(asked, batches),
        )
    first = models[0].name
    if first in found.failed:
        raise found.failed[first]
    timings = {
        name: {
            size: timing(found.calls[first][size], rounds, size, found.joules[name].get(size))
            for size, rounds in calls.items()
        }
        for name, calls in found.calls.items()
    }
    return SideBySide(
        rows=[_row(model, timings, found) for model in models],
        others=found.others,
    )


def _scenarios(asked: Benchmark, batches: Mapping[int, list[Arrays]]) -> Scenarios | None:
    if not asked.scenarios:
        return None
    offline = asked.scenario("offline")
    size = asked.offline_batch(offline) if isinstance(offline, Offline) else 1
    return Scenarios(asked.scenarios, batches, size, asked.seconds, asked.launches)


def _environment(name: str) -> str | None:
    """The isolated environment that a runtime needs here; None if it runs beside Hone."""
    found = runtime(name)
    return None if is_importable(found) else found.ENVIRONMENT


def _row(
    model: Compiled,
    timings: Mapping[str, dict[int, Timing]],
    found: Timings,
) -> Row:
    error, cold = found.failed.get(model.name), found.cold.get(model.name)
    return Row(
        name=model.name,
        runtime=model.runtime,
        size_bytes=model.bytes,
        memory_bytes=found.memory.get(model.name) if error is None else None,
        gpu_memory_bytes=found.gpu_memory.get(model.name) if error is None else None,
        cold=None if cold is None else ColdStart(load_s=cold[0], first_answer_s=cold[1]),
        timings=timings.get(model.name, {}),
        scenarios=found.scenarios.get(model.name, {}),
        failed=None if error is None else error.what,
    )
