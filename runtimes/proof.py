"""The proof that a model carries: some inputs, and the outputs that were measured for them.

The candidate computed the outputs itself, through its own runtime, when it was validated. Where the
model is loaded, it computes them again in one call. Int8 kernels of a processor without VNNI, or
another version of a runtime, may be silently wrong; a model that can't repeat what was measured is
refused.

How close to the measured outputs is close enough: as close as the candidate's outputs were to the
trained model's (`parity/sqnr_db`), because that error was measured and accepted. But `CLOSEST` is
always close enough (threads sum in another order, which is far closer), and less than `FARTHEST`
never is.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .circumstances import Circumstances, circumstances
from .compiled_artifact import CompiledArtifact, is_list_of, plain_object
from .errors import RuntimeFailed, telling_line
from .opening import runtime
from .predict import Array, Arrays, Predict, main_of

#: Folder in a model's data.
PROOF = "proof"
#: `warn` goes on with a model that can't repeat what was measured.
UNPROVEN = "HONE_UNPROVEN"
#: Most rows of a proof; all go through the model in one call.
ROWS = 8
#: Of the inputs of a proof, and of the outputs that it keeps (bytes).
MOST_BYTES = 4 << 20
#: Required distances from the measured outputs (dB): a summation in another order is closer than
#: `CLOSEST`, and saturated kernels are farther than `FARTHEST` (2 to 22 dB were seen).
CLOSEST, FARTHEST = 60.0, 30.0

_FILE = "proof.json"
_MOST_VALUES = 1 << 26  # of one synthetic input
_EXACT = 200.0  # dB

log = logging.getLogger("hone")


class Unproven(RuntimeFailed):
    """A model does not give the outputs that were measured."""


@dataclass(frozen=True)
class Synthetic:
    """Random values for an input, which tell nothing of the data but their spread.

    Attributes:
        dtype: As numpy names it.
        shape: With the rows.
        low: The smallest value.
        high: The largest one.
    """

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float

    def values(self, seed: int) -> Array:
        """The same values everywhere: the stream of RandomState never changes."""
        drawn = np.random.RandomState(seed).random_sample(self.shape)
        if np.dtype(self.dtype).kind in "iub":
            drawn = np.floor(drawn * (self.high - self.low + 1))
            return (self.low + drawn).astype(self.dtype)
        return (self.low + drawn * (self.high - self.low)).astype(self.dtype)

    @staticmethod
    def like(values: Array, rows: int) -> Synthetic:
        """As widely spread as real values: by their mean and deviation, or their whole range."""
        shape = (rows, *values.shape[1:])
        if values.dtype.kind in "iub":
            return Synthetic(values.dtype.name, shape, float(values.min()), float(values.max()))
        finite = values[np.isfinite(values)].astype(np.float64)
        middle, spread = (float(finite.mean()), float(finite.std())) if finite.size else (0.0, 1.0)
        half = math.sqrt(3) * spread  # of a uniform distribution with this deviation
        return Synthetic(values.dtype.name, shape, middle - half, middle + half)


@dataclass(frozen=True)
class Proof:
    """Inputs with their measured outputs.

    Attributes:
        inputs: By name; (N, ...).
        output: The measured outputs, every `every`-th value of each row; (N, values).
        shape: Of the whole output, with the rows.
        every: Which values are kept.
        least_db: How close to the measured outputs is close enough (dB).
        measured: The circumstances.
    """

    inputs: Arrays
    output: Array
    shape: tuple[int, ...]
    every: int
    least_db: float
    measured: Circumstances

    @staticmethod
    def of(inputs: Arrays, outputs: Array, parity_db: float, measured: Circumstances) -> Proof:
        """A proof from a measurement.

        Args:
            inputs: By name; (N, ...).
            outputs: Of the candidate, through its own runtime; (N, ...).
            parity_db: Distance of the candidate's outputs from the trained model's (dB).
            measured: The circumstances.
        """
        every = max(1, math.ceil(outputs.nbytes / MOST_BYTES))
        least = min(max(parity_db, FARTHEST), CLOSEST)
        return Proof(
            inputs, _kept(outputs, every), outputs.shape, every, round(least, 1), measured
        )  # fmt: skip

    def distance(self, outputs: Array) -> float:
        """Ratio of the energy of the measured outputs to that of the difference (dB)."""
        if outputs.shape != self.shape:
            return -_EXACT
        expected = self.output.astype(np.float64).ravel()
        error = expected - _kept(outputs, self.every).astype(np.float64).ravel()
        if not error.any():
            return _EXACT
        signal, noise = float(expected @ expected), float(error @ error)
        if not math.isfinite(noise) or signal == 0:
            return -_EXACT
        return min(_EXACT, 10 * math.log10(signal / noise)) if noise > 0 else _EXACT

    def require(self, predict: Predict, here: Circumstances) -> float:
        """Run the proof; returns the distance from what was measured (dB).

        Raises:
            Unproven: It is not within what was measured.
        """
        differs = self.measured.changed_to(here)
        reason = "; ".join(differs) if differs else (
            "the processor and the versions are those of the measurement, so the files or the "
            "runtime were altered"
        )  # fmt: skip
        try:
            found = self.distance(main_of(predict(self.inputs)))
        except Exception as error:
            raise Unproven(
                f"the model can't run its own proof ({telling_line(error)}): {reason}",
                do=f"fix what differs, or go on with {UNPROVEN}=warn",
            ) from error
        if found < self.least_db:
            raise Unproven(
                f"the model's outputs are not those that were measured (SQNR {found:.1f} dB, at "
                f"least {self.least_db:.1f} dB is within what was measured): {reason}",
                do="serve it where they are as measured, measure it here (hone run), or go on with "
                f"{UNPROVEN}=warn",
            )
        return found

    def write(self, folder: Path, synthetic: tuple[int, Mapping[str, Synthetic]] | None) -> None:
        """Write the proof.

        Args:
            folder: Where to; it is made.
            synthetic: The seed, and what is drawn for each input, in place of the inputs; None
                keeps the inputs.
        """
        folder.mkdir(parents=True)
        drawn = None if synthetic is None else {n: asdict(s) for n, s in synthetic[1].items()}
        said = {
            "inputs": list(self.inputs),
            "seed": None if synthetic is None else synthetic[0],
            "synthetic": drawn,
            "shape": self.shape,
            "every": self.every,
            "least_db": self.least_db,
            "measured": asdict(self.measured),
        }
        (folder / _FILE).write_text(json.dumps(said, indent=1) + "\n")
        np.save(folder / "output.npy", self.output, allow_pickle=False)
        for index, values in enumerate(self.inputs.values() if drawn is None else ()):
            kept = np.ascontiguousarray(values)
            np.save(folder / f"input-{index}.npy", kept, allow_pickle=False)

    @staticmethod
    def read(folder: Path) -> Proof:
        """Read a proof.

        Raises:
            RuntimeFailed: It is none.
        """
        said = plain_object(folder / _FILE)
        try:
            return _read(folder, said)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, OSError) as error:
            raise RuntimeFailed(
                f"it is no proof of a model: {telling_line(error)}"[:300], where=str(folder / _FILE)
            ) from error


def prove(model: Path, artifact: Path, threads: int, predict: Predict) -> None:
    """Run the proof that a model carries; `HONE_UNPROVEN=warn` only warns.

    Args:
        model: The model's data.
        artifact: Its artifact.
        threads: Of the runtime.
        predict: The artifact, opened.

    Raises:
        Unproven: Its outputs are not within what was measured.
        RuntimeFailed: The proof can't be read.
    """
    proof = Proof.read(model / PROOF)
    here = circumstances(runtime(CompiledArtifact.read(artifact).runtime), threads)
    try:
        proof.require(predict, here)
    except Unproven as refusal:
        if not warns():
            raise
        log.warning("%s; it is used all the same, because %s=warn", refusal.what, UNPROVEN)


def warns() -> bool:
    """Whether a model is used although it can't repeat what was measured."""
    return os.environ.get(UNPROVEN, "").strip().lower() == "warn"


def _kept(outputs: Array, every: int) -> Array:
    return np.ascontiguousarray(outputs.reshape(len(outputs), -1)[:, ::every])


def _read(folder: Path, said: dict[str, Any]) -> Proof:
    names, seed, drawn = said["inputs"], said["seed"], said["synthetic"]
    measured = said["measured"]
    if not is_list_of(str, names) or not is_list_of(int, said["shape"]) or not said["shape"]:
        raise ValueError("its inputs or its shape are not listed")
    shape = tuple(said["shape"])
    every, least = said["every"], said["least_db"]
    if type(every) is not int or every < 1 or not FARTHEST <= float(least) <= CLOSEST:
        raise ValueError("its tolerance is none that Hone writes")
    if drawn is None:
        inputs = {name: _array(folder / f"input-{i}.npy") for i, name in enumerate(names)}
    else:
        inputs = {name: _drawn(int(seed) + i, drawn[name]) for i, name in enumerate(names)}
    output = _array(folder / "output.npy")
    if min(shape) < 0 or output.shape != (shape[0], math.ceil(math.prod(shape[1:]) / every)):
        raise ValueError("its output has another shape than it says")
    return Proof(
        inputs,
        output,
        shape,
        every,
        float(least),
        Circumstances(
            str(measured["architecture"]),
            tuple(map(str, measured["features"])),
            {str(k): str(v) for k, v in measured["versions"].items()},
            int(measured["threads"]),
        ),
    )


def _drawn(seed: int, said: dict[str, Any]) -> Array:
    shape = tuple(int(size) for size in said["shape"])
    if min(shape) < 0 or math.prod(shape) > _MOST_VALUES:
        raise ValueError("an input is too large")
    dtype = str(said["dtype"])
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError("an input is not made of numbers")
    return Synthetic(dtype, shape, float(said["low"]), float(said["high"])).values(seed)


def _array(path: Path) -> Array:
    """An array of plain numbers; mapped first, so that a header can't claim more than there is."""
    try:
        found: Array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # numpy parses the header as Python: any error of a parser
        raise ValueError(f"{path.name} can't be read: {telling_line(error)}") from error
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{path.name} holds no numbers")
    return found
