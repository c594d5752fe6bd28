"""The stages of the zoo: Hone's own steps in this process, each beside the same by hand."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import zoo_by_hand as hand
import zoo_models
from prefect_hone.ray_workers.data.calling import call_model
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.launch import actors
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.recipe.errors import HoneError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.testing.workshop import Workshop
from safetensors.torch import load_file

MODELS = Path(__file__).parent / "zoo_models"
#: Largest difference of an output from torch's, in units of the largest output.
PARITY = 1e-3
#: Largest difference of a weight between trainings on one worker and on two.
SAME = 1e-5
TARGETS = ("onnxruntime-cpu", "openvino-cpu")
_SCHEMES: dict[str, dict[str, Any]] = {
    "int8-nncf": {"kind": "quantize", "scheme": "static-int8", "engine": "nncf"},
    "dynamic-int8": {"kind": "quantize", "scheme": "dynamic-int8"},
    "weight-int8": {"kind": "quantize", "scheme": "weight-int8"},
    "weight-int4": {"kind": "quantize", "scheme": "weight-int4", "group_size": 16},
    "fp16": {"kind": "quantize", "scheme": "fp16"},
    "bf16": {"kind": "quantize", "scheme": "bf16"},
    "low-rank": {"kind": "low-rank", "budget": 0.5},
}
_PRUNING: dict[str, dict[str, Any]] = {
    "channel": {"kind": "prune", "method": "channel", "ratio": 0.5, "round_to": 4},
    "transformer": {"kind": "prune", "method": "transformer", "heads": 0.5, "mlp": 0.5,
                    "round_to": 4},
    "magnitude": {"kind": "prune", "method": "magnitude", "ratio": 0.5},
}  # fmt: skip
#: Passes that train for an epoch.
_TRAINED: dict[str, dict[str, Any]] = {
    "qat": {"kind": "qat", "epochs": 1},
    "recover": {"kind": "prune", "method": "channel", "ratio": 0.5, "round_to": 4,
                "recover_epochs": 1, "recover_teacher": True},
}  # fmt: skip


class Bench:
    """One architecture.

    Args:
        name: The architecture's.
        folder: For everything that is written.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._made: Workshop | None = None

    @property
    def _workshop(self) -> Workshop:
        self._made = self._made or Workshop(self.folder / "workshop", code=MODELS)
        return self._made

    def _recipe(self, passes: dict[str, dict[str, Any]], targets: tuple[str, ...]) -> Recipe:
        variants = [{"name": name, "passes": [one]} for name, one in passes.items()]
        return Recipe.model_validate({
            "name": "zoo",
            "model": {"factory": "zoo_models:model", "args": {"name": self.name}},
            "data": {"factory": "zoo_models:data", "args": {"name": self.name}},
            "train": {"epochs": 0, "batch_size": 4, "loss": "zoo_models:loss"},
            "quality": {"metric": "zoo_models:Size", "higher_is_better": True},
            "variants": [{"name": "fp32"}, *variants],
            "targets": list(targets),
            "registry": {"model": "zoo"},
        })  # fmt: skip

    def _candidates(
        self, passes: dict[str, dict[str, Any]], targets: tuple[str, ...] = TARGETS
    ) -> dict[str, dict[str, Any]]:
        """For each variant and runtime how far it went, its SQNR (dB), and its notes."""
        layout = self._workshop.lay_out(self._recipe(passes, targets))
        found: dict[str, dict[str, Any]] = {}
        for candidate in layout.candidates:
            variant, runtime = candidate.variant.name, candidate.target.kind.removesuffix("-cpu")
            if variant == "fp32" and passes:
                continue
            row = found.setdefault(variant, {})
            try:
                metrics = candidate.validated.done.metrics  # type: ignore[union-attr]
                passes_on = candidate.shared[2:]  # without check and training
                row["notes"] = [note for step in passes_on for note in step.done.notes]
            except HoneError as error:
                row[runtime] = f"{type(error).__name__}: {error}"
                continue
            except Exception as error:
                row[runtime] = f"TRACEBACK {type(error).__name__}: {error}"[:400]
                continue
            row[runtime] = "ok"
            row[f"{runtime}_db"] = round(min(metrics["parity/sqnr_db"], 200.0), 1)
            row[f"{runtime}_apart"] = metrics["parity/max_abs_error"] / self._scale
        return found

    @property
    def _scale(self) -> float:
        with torch.no_grad():
            outputs = call_model(zoo_models.model(self.name), zoo_models.inputs(self.name))
        return max(float(outputs.abs().max()), 1e-6)

    def graph(self) -> dict[str, Any]:
        """Check, export, both runtimes, parity."""
        started = time.perf_counter()
        layout = self._workshop.lay_out(self._recipe({}, TARGETS))
        row: dict[str, Any] = {"export": "ok"}
        try:
            layout.check.done, layout.train.done, layout.export.done  # noqa: B018 (runs them)
        except HoneError as error:
            row["export"] = f"{type(error).__name__}: {error}"
        except Exception as error:
            row["export"] = f"TRACEBACK {type(error).__name__}: {error}"[:400]
        if row["export"] == "ok":
            row |= self._candidates({})["fp32"]
            for runtime in ("onnxruntime", "openvino"):
                apart = row.pop(f"{runtime}_apart", 0.0)
                if apart > PARITY:
                    row[runtime] = f"{apart:.1e} away"
        row["hone_seconds"] = round(time.perf_counter() - started, 1)
        return {**row, "hand": hand.graph(self.name, self.folder, PARITY)}

    def int8(self) -> dict[str, Any]:
        """Static int8 with Hone's defaults on both runtimes; by hand with each runtime's tool."""
        passes = {"int8": {"kind": "quantize", "scheme": "static-int8"}}
        row = self._candidates(passes)["int8"]
        return {**row, "hand": hand.int8(self.name, self.folder)}

    def schemes(self) -> dict[str, Any]:
        """Every other scheme, and low rank."""
        return {"schemes": self._candidates(_SCHEMES)}

    def prune(self) -> dict[str, Any]:
        """Half of the channels, or of heads and units, or of the weights; by hand with
        torch-pruning. Each pass tries the smaller module on samples; nothing is exported.
        """
        found = self._on_module(_PRUNING)
        said, left = hand.attempt(lambda: hand.pruned(self.name))
        return {"prune": found, "hand": {"channel": said, "left": left}}

    def retrain(self) -> dict[str, Any]:
        """An epoch of each pass that trains, in this process."""
        student = {"factory": "zoo_models:model", "args": {"name": self.name}}
        passes = {**_TRAINED, "distill": {"kind": "distill", "epochs": 1, **student}}
        with patch.object(actors, "fit", lambda job, work: train_loop(job, work.report)):
            return {"retrain": self._on_module(passes)}

    def _on_module(self, passes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What each pass on the module says; nothing is exported."""
        layout = self._workshop.lay_out(self._recipe(passes, TARGETS[:1]))
        found: dict[str, Any] = {}
        for candidate in layout.candidates[1:]:
            row = found[candidate.variant.name] = {}
            try:
                done = candidate.shared[3].done
            except HoneError as error:
                row["said"] = f"{type(error).__name__}: {error}"
                continue
            except Exception as error:
                row["said"] = f"TRACEBACK {type(error).__name__}: {error}"[:400]
                continue
            row["said"], row["notes"], row["metrics"] = "ok", list(done.notes), done.metrics
        return found

    def train(self) -> dict[str, Any]:
        """An epoch on one worker and on two; once more in float64 if they differ, because deep
        networks with batch norm of a few samples multiply what float32 rounds.
        """
        row = self._one_and_two(double=False)
        if row.get("apart", 0.0) > SAME:
            again = self._one_and_two(double=True)
            row |= {f"{key}_in_float64": value for key, value in again.items()}
        return row

    def _one_and_two(self, double: bool) -> dict[str, Any]:
        weights: dict[int, dict[str, torch.Tensor]] = {}
        row: dict[str, Any] = {}
        for world in (1, 2):
            row[f"workers_{world}"] = said = self._trained(world, double)
            if said == "ok":
                weights[world] = load_file(self._trained_in(world, double) / WEIGHTS)
        if len(weights) == 2:
            row["apart"] = _largest(weights[1], weights[2])
            row["moved"] = _largest(weights[1], zoo_models.model(self.name, double).state_dict())
        return row

    def _trained_in(self, world: int, double: bool) -> Path:
        return self.folder / f"trained-{world}-{double}"

    def _trained(self, world: int, double: bool) -> str:
        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()
        workers = [
            context.Process(target=self._work, args=(rank, world, double, said))
            for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        answers = []
        while not said.empty():
            answers.append(said.get())
        answers += ["a worker died"] * (world - len(answers))
        bad = [answer for answer in answers if answer != "ok"]
        return min(bad, key=lambda answer: "Connection" in answer) if bad else "ok"

    def _work(self, rank: int, world: int, double: bool, said: Any) -> None:
        torch.set_num_threads(1)
        folder = self._trained_in(world, double)
        try:
            if world > 1:
                dist.init_process_group(
                    "gloo", init_method=f"file://{folder}-group", rank=rank, world_size=world
                )
            train_loop(self._job(folder, world, double), lambda _event: None)
            if rank == 0:
                kept = Checkpoints(str(folder), True)
                kept.export(kept.all()[-1], folder)
            answer = "ok"
        except HoneError as error:
            answer = f"{type(error).__name__}: {error}"
        except Exception as error:
            answer = f"TRACEBACK {type(error).__name__}: {error}"[:400]
        said.put(answer)

    def _job(self, folder: Path, world: int, double: bool) -> TrainJob:
        return TrainJob.model_validate({
            "model": {"factory": "zoo_models:model", "args": {"name": self.name, "double": double}},
            "data": {"factory": "zoo_models:data", "args": {"name": self.name, "double": double}},
            "train": {
                "epochs": 1, "batch_size": 4, "loss": "zoo_models:loss", "seed": 1,
                "mesh": {"data": world}, "optimizer": {"name": "sgd", "lr": 0.01},
                "sync_batch_norm": True,
            },
            "metric": "zoo_models:Size",
            "higher_is_better": True,
            "allowed": {"modules": ["zoo_models"]},
            "checkpoints": str(folder),
        })  # fmt: skip


def _largest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two models' tensors."""
    return max(float((v.double() - other[k].double()).abs().max()) for k, v in one.items())
