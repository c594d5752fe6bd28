"""How to train: the `train` part of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .objectives import Objective, Supervised
from .optimizers import AdamW, Optimizer, Schedule
from .parallel import Mesh, Parallel
from .strict import NameOrPath, Strict, mistake


class Resources(Strict):
    """What each training worker gets."""

    cpus: float = Field(1, gt=0, description="CPU cores of each worker.")
    gpus: float = Field(0, ge=0, description="GPUs of each worker.")


class Checkpointing(Strict):
    """When the state of the training is kept, and how much of it."""

    every_steps: int | None = Field(
        None, ge=1, description="Steps between two checkpoints within an epoch; none: at its end."
    )
    keep: int = Field(1, ge=1, description="Newest checkpoints kept beside the best (a count).")
    asynchronous: bool = Field(
        True, description="Write while training goes on; only the copy of the state stops it."
    )


class Train(Strict):
    """The training run."""

    epochs: int = Field(
        ge=0,
        description="Times that the training split is gone through (a count); 0: the factory, or "
        "model.weights, gives a trained model.",
    )
    batch_size: int = Field(ge=1, description="Samples a step over all workers together.")
    loss: NameOrPath = Field(
        "cross_entropy",
        description="cross_entropy, mse, l1, huber, bce_with_logits, or an import path "
        "'module:function' of (outputs, targets) -> scalar mean loss.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes (cross_entropy)."
    )
    objective: Objective = Field(
        Supervised(kind="supervised"),
        description="supervised (the loss), or distill (the loss and a teacher's outputs).",
    )
    optimizer: Optimizer = Field(
        AdamW(name="adamw"), description="By name, with its settings, or by import path."
    )
    schedule: Schedule = Field(Schedule(), description="Of the learning rate.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="fp32, or autocast to bf16 or (GPU only) fp16 with loss scaling."
    )
    mesh: Mesh = Field(Mesh(), description="How many workers, and what they split.")
    parallel: Parallel = Field(Parallel(), description="Settings of each parallelism.")
    resources: Resources = Field(Resources(), description="Of each worker.")
    accumulate: int = Field(
        1, ge=1, description="Parts that each worker's share of a batch is computed in (a count)."
    )
    clip_grad_norm: float | None = Field(
        None, gt=0, description="Largest norm of the whole gradient; none is no limit."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay a step of an exponential moving average of the weights, which then is "
        "what is validated and kept; none is off.",
    )
    recompute: Literal["none", "selective", "full"] = Field(
        "none",
        description="Activation checkpointing of the blocks: full recomputes everything in the "
        "backward pass, selective keeps the results of matrix products.",
    )
    compile: bool = Field(False, description="Compile each block with torch.compile.")
    deterministic: bool = Field(
        False, description="Same seed, same mesh, same bits: only deterministic kernels."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, shuffling and splits.")
    checkpoint: Checkpointing = Field(Checkpointing(), description="What is kept, and when.")
    max_failures: int = Field(
        2, ge=0, description="Times that training goes on after a lost worker (a count)."
    )
    stop_on_spike: float | None = Field(
        None,
        gt=1,
        description="Stop when a step's loss is this many times the median of the last 50; none "
        "is never. NaN always stops.",
    )
    launcher: Literal["actors", "ray-train"] = Field(
        "actors",
        description="Who starts the workers: Hone's own Ray actors (quicker, elastic while "
        "running), or Ray Train's TorchTrainer.",
    )
    wait_for_workers: float = Field(
        0, ge=0, description="Longest wait for a cluster that is too small to grow (s)."
    )

    @model_validator(mode="after")
    def _fits(self) -> Train:
        if self.precision == "fp16" and self.resources.gpus == 0:
            raise mistake(
                "precision",
                "fp16 training needs a GPU: set resources.gpus to 1, or precision to bf16 or fp32",
            )
        if self.precision == "fp16" and self.mesh.pipeline > 1:
            raise mistake(
                "precision", "loss scaling does not work across pipeline stages: take bf16"
            )
        self._batch_fits()
        self._mesh_fits()
        if self.label_smoothing and self.loss != "cross_entropy":
            raise mistake("label_smoothing", "label_smoothing needs loss cross_entropy")
        return self

    def _batch_fits(self) -> None:
        readers = self.mesh.data_range[1] * self.mesh.shard
        if self.batch_size < readers:
            raise mistake(
                "batch_size",
                "a batch of {batch_size} can't be split over {readers} workers: raise batch_size "
                "or lower mesh.data or mesh.shard",
                batch_size=self.batch_size,
                readers=readers,
            )
        if self.mesh.pipeline == 1:
            return
        if self.accumulate > 1:
            raise mistake(
                "accumulate",
                "a pipeline has micro-batches already: set parallel.pipeline.microbatches instead "
                "of accumulate",
            )
        pipeline = self.parallel.pipeline
        parts = readers * pipeline.microbatches
        if self.batch_size % parts:
            raise mistake(
                "batch_size",
                "a batch of {batch_size} can't be dealt out evenly to {readers} pipelines with "
                "{microbatches} micro-batches each: take a multiple of {parts}",
                batch_size=self.batch_size,
                readers=readers,
                microbatches=pipeline.microbatches,
                parts=parts,
            )
        if pipeline.schedule == "interleaved-1f1b" and pipeline.microbatches % self.mesh.pipeline:
            raise mistake(
                "microbatches",
                "interleaved-1f1b needs a multiple of mesh.pipeline as "
                "parallel.pipeline.microbatches",
            )

    def _mesh_fits(self) -> None:
        split = [a for a in ("shard", "tensor") if getattr(self.mesh, a) > 1]
        if self.optimizer.needs_whole_matrices and split:
            raise mistake(
                "optimizer",
                "{name} looks at whole matrices, which the axis '{axis}' splits: take adamw, or "
                "the axes data and pipeline",
                name=self.optimizer.name,
                axis=split[0],
            )
        if self.objective.kind == "distill" and self.mesh.context > 1:
            raise mistake("objective", "distill does not go with mesh.context yet")
