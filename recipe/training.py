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

    cpus: float = Field(1, gt=0, description="CPU cores per worker.")
    gpus: float = Field(0, ge=0, description="GPUs per worker.")


class Loading(Strict):
    """How each training worker is fed with samples, beside the step."""

    workers: int | None = Field(
        None,
        ge=0,
        description="Processes of each worker that read and augment samples (a count); 0: the "
        "worker reads by itself. None: 0 if a sample takes less than 1 ms, else one per CPU of the "
        "worker, at least 2. The samples and their random augmentation are the same with any.",
    )
    prefetch: int = Field(2, ge=1, description="Batches that each process reads ahead (a count).")
    pin_memory: bool = Field(
        True, description="Copy to a GPU from pinned memory, while the GPU computes."
    )


class Checkpointing(Strict):
    """When checkpoints are written, and how many are kept."""

    every_steps: int | None = Field(
        None, ge=1, description="Steps between checkpoints (a count); none: one per epoch."
    )
    keep: int = Field(
        1, ge=1, description="Latest checkpoints to keep besides the best one (a count)."
    )
    asynchronous: bool = Field(
        True, description="Write in the background; training only stops to copy the state."
    )


class Train(Strict):
    """The training run."""

    epochs: int = Field(
        ge=0,
        description="Passes over the training split (a count); 0: the model is used as the "
        "factory, model.weights or model.source provides it.",
    )
    batch_size: int = Field(
        ge=1, description="Global batch size: samples per step over all workers."
    )
    loss: NameOrPath = Field(
        "cross_entropy",
        description="cross_entropy, mse, l1, huber, bce_with_logits, or an import path "
        "'module:function' of (outputs, targets) -> the mean over the samples, or a pair: the sum "
        "over what counts, and how much counts. It is a function of yours, or a loss of torch's "
        "(torch.nn.functional:nll_loss).",
    )
    loss_outputs: Literal["main", "all"] = Field(
        "main",
        description="What a loss of your own gets as outputs: main, the one that model.output "
        "names; or all, what the model returns (a tuple, dictionary or dataclass), for losses over "
        "several outputs. Quality has `quality.outputs`.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Label smoothing of cross_entropy: share spread over all classes.",
    )
    class_weights: tuple[float, ...] | None = Field(
        None,
        description="Weight of each class in cross_entropy, in the order of the class numbers; the "
        "mean is over the weights. None: all count the same.",
    )
    objective: Objective = Field(
        Supervised(kind="supervised"),
        description="supervised (the loss), or distill (the loss and a teacher's outputs).",
    )
    optimizer: Optimizer = Field(AdamW(name="adamw"), description="Optimizer and its settings.")
    schedule: Schedule = Field(Schedule(), description="Learning rate schedule.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="fp32, or autocast to bf16 or (GPU only) fp16 with loss scaling."
    )
    mesh: Mesh = Field(Mesh(), description="Workers per parallel axis.")
    parallel: Parallel = Field(Parallel(), description="Settings of each parallel axis.")
    resources: Resources = Field(Resources(), description="Resources per worker.")
    accumulate: int = Field(
        1, ge=1, description="Gradient accumulation: micro-batches per step (a count)."
    )
    clip_grad_norm: float | None = Field(
        None, gt=0, description="Maximum norm of the gradient; none: no clipping."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is "
        "then validated and kept; none: off.",
    )
    sync_batch_norm: bool = Field(
        False,
        description="Batch norms take the statistics of the whole batch instead of each worker's "
        "part, so that any number of workers trains the same; it adds communication to each of "
        "them. For the axes data and shard.",
    )
    recompute: Literal["none", "selective", "full"] = Field(
        "none",
        description="Activation checkpointing of the blocks: full recomputes everything in the "
        "backward pass, selective keeps the results of matrix products.",
    )
    compile: bool = Field(False, description="Compile each block with torch.compile.")
    deterministic: bool = Field(
        False, description="Deterministic kernels only: same seed and mesh, same bits."
    )
    loading: Loading = Field(Loading(), description="How workers are fed with samples.")
    seed: int = Field(0, ge=0, description="Seed for weights, shuffling and splits.")
    checkpoint: Checkpointing = Field(
        Checkpointing(), description="When to write checkpoints, and how many to keep."
    )
    max_failures: int = Field(2, ge=0, description="Restarts allowed after lost workers (a count).")
    stop_on_spike: float | None = Field(
        None,
        gt=1,
        description="Stop when a step's loss exceeds this many times the median of the last 50; "
        "none: never. NaN always stops.",
    )
    launcher: Literal["actors", "ray-train"] = Field(
        "actors",
        description="How workers are started: Hone's own Ray actors (faster, elastic while "
        "running), or Ray Train's TorchTrainer.",
    )
    wait_for_workers: float = Field(
        0, ge=0, description="How long to wait for a cluster that is too small (s)."
    )

    @property
    def loss_gets_all(self) -> bool:
        """Whether the loss gets all outputs of the model."""
        return self.loss_outputs == "all"

    @model_validator(mode="after")
    def _fits(self) -> Train:
        if self.precision == "fp16" and self.resources.gpus == 0:
            raise mistake(
                "precision",
                "fp16 training needs a GPU: set resources.gpus to 1, or precision to bf16 or fp32",
            )
        if self.precision == "fp16" and self.mesh.pipeline > 1:
            raise mistake(
                "precision", "loss scaling does not work across pipeline stages: use bf16"
            )
        self._batch_fits()
        self._mesh_fits()
        if self.class_weights is not None:
            if self.loss != "cross_entropy":
                raise mistake("class_weights", "class_weights needs loss cross_entropy")
            if min(self.class_weights, default=0) < 0 or sum(self.class_weights) <= 0:
                raise mistake("class_weights", "weights are not negative, and one is above 0")
        if self.loss_gets_all:
            if ":" not in self.loss:
                raise mistake(
                    "loss_outputs",
                    "{loss} compares one output with the target: name a loss of your own "
                    "(module:function)",
                    loss=self.loss,
                )
            if self.mesh.pipeline > 1:
                raise mistake(
                    "loss_outputs",
                    "a pipeline's last stage gives the loss one output: set mesh.pipeline to 1",
                )
        if self.label_smoothing and self.loss != "cross_entropy":
            raise mistake("label_smoothing", "label_smoothing needs loss cross_entropy")
        return self

    def _sync_fits(self) -> None:
        for axis in ("tensor", "pipeline", "context"):
            if getattr(self.mesh, axis) > 1:
                raise mistake(
                    "sync_batch_norm",
                    "sync_batch_norm works on the axes data and shard, not with mesh.{axis}",
                    axis=axis,
                )
        if self.accumulate > 1:
            raise mistake(
                "sync_batch_norm",
                "with accumulate, batch norms see micro-batches, not the whole batch: set "
                "accumulate to 1, or sync_batch_norm to false",
            )
        if self.recompute != "none":
            raise mistake(
                "sync_batch_norm",
                "recompute would run the batch norms twice in each step: set recompute to none",
            )

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
        if self.sync_batch_norm:
            self._sync_fits()
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
            raise mistake("objective", "distill does not support mesh.context yet")
