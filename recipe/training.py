"""How to train: the `train` part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from .strict import Strict


class Sgd(Strict):
    """Stochastic gradient descent, with momentum and Nesterov's variant of it."""

    name: Literal["sgd"] = Field(description="torch.optim.SGD")
    lr: float = Field(0.1, gt=0, description="Learning rate at its highest.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0 is none.")
    nesterov: bool = Field(False, description="Nesterov momentum.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty a step.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise PydanticCustomError("nesterov", "nesterov needs a momentum above 0")
        return self


class Adam(Strict):
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980)."""

    name: Literal["adam"] = Field(description="torch.optim.Adam")
    lr: float = Field(0.001, gt=0, description="Learning rate at its highest.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of the two averages.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty a step.")


class AdamW(Strict):
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101)."""

    name: Literal["adamw"] = Field(description="torch.optim.AdamW")
    lr: float = Field(0.001, gt=0, description="Learning rate at its highest.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of the two averages.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay a step.")


Optimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="name")]


class Schedule(Strict):
    """How the learning rate changes from the first step to the last."""

    name: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="Shape after the warm-up; cosine and linear end at `final`."
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps in which the rate rises from 0."
    )
    final: float = Field(
        0.0, ge=0, le=1, description="Rate at the end as a share of the highest (not constant)."
    )


class Mesh(Strict):
    """Workers along each axis of parallelism; their product is the number of workers."""

    data: int = Field(1, ge=1, description="Data parallel: replicas of the model (a count).")
    shard: int = Field(1, ge=1, description="Fully sharded (a count). Not built yet: 1.")
    tensor: int = Field(1, ge=1, description="Tensor parallel (a count). Not built yet: 1.")
    pipeline: int = Field(1, ge=1, description="Pipeline stages (a count). Not built yet: 1.")

    @property
    def workers(self) -> int:
        return self.data * self.shard * self.tensor * self.pipeline

    @model_validator(mode="after")
    def _only_data(self) -> Mesh:
        for axis in ("shard", "tensor", "pipeline"):
            if getattr(self, axis) != 1:
                raise PydanticCustomError(
                    "mesh_axis",
                    "the axis '{axis}' is not built yet: this version trains data parallel only; "
                    "set it to 1 and use 'data'",
                    {"axis": axis},
                )
        return self


class Resources(Strict):
    """What each training worker gets."""

    cpus: float = Field(1, gt=0, description="CPU cores of each worker.")
    gpus: float = Field(0, ge=0, description="GPUs of each worker.")


class Train(Strict):
    """The training run."""

    epochs: int = Field(ge=1, description="Passes over the training split (a count).")
    batch_size: int = Field(ge=1, description="Samples a step over all workers together.")
    loss: str = Field(
        "cross_entropy",
        description="cross_entropy, mse, l1, huber, bce_with_logits, or an import path "
        "'module:function' of (outputs, targets) -> scalar mean loss.",
    )
    optimizer: Optimizer = Field(
        AdamW(name="adamw"), description="sgd, adam or adamw, with its settings."
    )
    schedule: Schedule = Field(Schedule(), description="Of the learning rate.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="fp32, or autocast to bf16 or (GPU only) fp16."
    )
    mesh: Mesh = Field(Mesh(), description="How many workers, and what they split.")
    resources: Resources = Field(Resources(), description="Of each worker.")
    clip_grad_norm: float | None = Field(
        None, gt=0, description="Largest norm of the gradient; none is no limit."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, shuffling and splits.")
    max_failures: int = Field(
        2, ge=0, description="Times that training goes on after a lost worker (a count)."
    )

    @model_validator(mode="after")
    def _fits(self) -> Train:
        if self.precision == "fp16" and self.resources.gpus == 0:
            raise PydanticCustomError(
                "precision",
                "fp16 training needs a GPU: set resources.gpus to 1, or precision to bf16 or fp32",
            )
        if self.batch_size < self.mesh.workers:
            raise PydanticCustomError(
                "batch_size",
                "a batch of {batch_size} can't be split over {workers} workers: "
                "raise batch_size or lower mesh.data",
                {"batch_size": self.batch_size, "workers": self.mesh.workers},
            )
        return self
