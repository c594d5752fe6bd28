"""How far each architecture of the zoo goes: check, export, ONNX Runtime, OpenVINO, parity.

Beside it, the same model by torch.onnx and ONNX Runtime alone, at another batch size than the one
that it was exported with.

    python tests/benchmarks/zoo.py [NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

MODELS = Path(__file__).parent / "zoo_models"
sys.path.insert(0, str(MODELS))
import zoo_models  # noqa: E402
from prefect_hone.ray_workers.data.calling import (  # noqa: E402
    arrays,
    call_model,
    main_output_name,
    named_outputs,
    tensors,
)
from prefect_hone.recipe.errors import HoneError  # noqa: E402
from prefect_hone.recipe.schema import Recipe  # noqa: E402
from prefect_hone.testing.workshop import Workshop  # noqa: E402

#: Largest difference of an output from torch's, in units of the largest output.
PARITY = 1e-3
TARGETS = ("onnxruntime-cpu", "openvino-cpu")


@dataclass
class Row:
    """How far one architecture went.

    Attributes:
        name: The architecture's.
        by_hand: `ok`, or why torch.onnx and ONNX Runtime alone did not get there.
        exported: `ok`, or the sentence of check or export.
        onnxruntime: `ok`, or the sentence of compile or validation.
        openvino: The same.
        db: SQNR of ONNX Runtime's and OpenVINO's outputs (dB).
        seconds: All of Hone's steps (s).
    """

    name: str
    by_hand: str = ""
    exported: str = ""
    onnxruntime: str = ""
    openvino: str = ""
    db: tuple[float, ...] = ()
    seconds: float = 0.0


def by_hand(name: str, folder: Path) -> str:
    """`ok` if torch.onnx's graph computes the same as torch for 2 samples and for 3."""
    import onnxruntime

    model, batch = zoo_models.model(name), zoo_models.inputs(name)
    named = arrays(batch)
    two = tensors({n: v[:2] for n, v in named.items()})
    args = two if isinstance(two, tuple) else () if isinstance(two, dict) else (two,)
    kwargs = two if isinstance(two, dict) else None
    free = {0: torch.export.Dim("batch")}
    shapes: Any = dict.fromkeys(kwargs, free) if kwargs else tuple(free for _ in args)
    path = folder / f"{name}.onnx"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(
                model, args, str(path), kwargs=kwargs, dynamo=True, dynamic_shapes=shapes,
                input_names=list(named), verbose=False,
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for count in (2, 3):
            given = {n: v[:count] for n, v in named.items()}
            found = session.run(None, given)
            with torch.no_grad():
                outputs = named_outputs(model(**tensors(given)) if kwargs else model(
                    *(t if isinstance(t := tensors(given), tuple) else (t,))))  # fmt: skip
            names = list(outputs)
            main = names.index(main_output_name(names))
            apart = _apart(list(outputs.values())[main].numpy(), found[main])
            if apart > PARITY:
                return f"{count} samples: {apart:.1e} away"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
    return "ok"


def _apart(expected: Any, found: Any) -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float(np.abs(expected - found).max() / max(1e-6, np.abs(expected).max()))


def by_hone(name: str, workshop: Workshop, row: Row) -> None:
    """Every step of a run, in this process."""
    recipe = Recipe.model_validate({
        "name": "zoo",
        "model": {"factory": "zoo_models:model", "args": {"name": name}},
        "data": {"factory": "zoo_models:data", "args": {"name": name}},
        "train": {"epochs": 0, "batch_size": 2, "loss": "zoo_models:loss"},
        "quality": {"metric": "zoo_models:Size", "higher_is_better": True},
        "targets": list(TARGETS),
        "registry": {"model": "zoo"},
    })  # fmt: skip
    started = time.perf_counter()
    layout = workshop.lay_out(recipe)
    try:
        layout.check.done, layout.train.done, layout.export.done  # noqa: B018 (runs them)
        row.exported = "ok"
    except HoneError as error:
        row.exported = str(error)
        return
    finally:
        row.seconds = time.perf_counter() - started
    distances = []
    for candidate in layout.candidates:
        field = candidate.target.kind.removesuffix("-cpu")
        try:
            assert candidate.validated is not None
            metrics = candidate.validated.done.metrics
        except HoneError as error:
            setattr(row, field, str(error))
            continue
        distances.append(metrics["parity/sqnr_db"])
        model = zoo_models.model(name)
        with torch.no_grad():
            scale = float(call_model(model, zoo_models.inputs(name)).abs().max())
        apart = metrics["parity/max_abs_error"] / max(scale, 1e-6)
        setattr(row, field, "ok" if apart <= PARITY else f"{apart:.1e} away")
    row.db, row.seconds = tuple(distances), time.perf_counter() - started


def run(
    names: list[str], out: Path | None = None, hand: bool = True, hone: bool = True
) -> list[Row]:
    """One row for each architecture.

    Args:
        names: Of the architectures.
        out: A file for the rows, as JSON.
        hand: With torch.onnx and ONNX Runtime alone.
        hone: By Hone's steps.
    """
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory(prefix="shapes-zoo-") as scratch:
        workshop = Workshop(Path(scratch) / "workshop", code=MODELS)
        for name in names:
            row = Row(name)
            try:
                row.by_hand = by_hand(name, Path(scratch)) if hand else ""
                if hone:
                    by_hone(name, workshop, row)
            except HoneError as error:
                row.exported = row.exported or str(error)
            except Exception as error:  # a fault of Hone's: no sentence
                row.exported = f"TRACEBACK {type(error).__name__}: {error}"[:300]
            rows.append(row)
            print(json.dumps(asdict(row)), flush=True)
            if out is not None:
                out.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("hand", "hone"))
    said = parser.parse_args()
    everything = [*zoo_models.BY_HAND, *zoo_models.TRANSFORMERS]
    run(said.names or everything, said.json, said.only != "hone", said.only != "hand")


if __name__ == "__main__":
    main()
