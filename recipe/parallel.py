"""What is split over the workers: the `mesh` of a recipe, and the settings of each parallelism."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from .strict import NameOrPath, Strict, mistake

AXES = ("data", "shard", "tensor", "pipeline", "context")


class Elastic(Strict):
    """A number of workers that may change while training runs."""

    min: int = Field(1, ge=1, description="Fewest replicas (a count).")
    max: int = Field(ge=1, description="Most replicas (a count).")

    @model_validator(mode="after")
    def _ordered(self) -> Elastic:
        if self.min > self.max:
            raise mistake("elastic", "min is above max")
        return self


class Mesh(Strict):
    """Workers along each axis of parallelism; their product is the number of workers."""

    data: int | Elastic = Field(
        1,
        description="Data parallel: replicas of the model (a count), or {min, max}: as many as the "
        "cluster has room for, adjusted while running. The global batch stays the same.",
    )
    shard: int = Field(
        1, ge=1, description="Fully sharded data parallel (FSDP2): parts of the weights (a count)."
    )
    tensor: int = Field(1, ge=1, description="Tensor parallel: parts of each layer (a count).")
    pipeline: int = Field(1, ge=1, description="Pipeline parallel: workers per pipeline (a count).")
    context: int = Field(
        1, ge=1, description="Context parallel: parts of each sequence (a count; CUDA only)."
    )

    @field_validator("data")
    @classmethod
    def _positive(cls, data: int | Elastic) -> int | Elastic:
        if isinstance(data, int) and data < 1:
            raise mistake("data", "should be greater than or equal to 1")
        return data

    @property
    def data_range(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        if isinstance(self.data, Elastic):
            return self.data.min, self.data.max
        return self.data, self.data

    @property
    def is_elastic(self) -> bool:
        return isinstance(self.data, Elastic)

    @property
    def replica(self) -> int:
        """Workers of one replica of the model."""
        return self.shard * self.tensor * self.pipeline * self.context

    @property
    def workers(self) -> int:
        """The most workers that the mesh can use."""
        return self.data_range[1] * self.replica

    @property
    def least_workers(self) -> int:
        """The fewest workers that the mesh needs."""
        return self.data_range[0] * self.replica

    def sizes(self, workers: int) -> dict[str, int] | None:
        """Workers along each axis for a number of workers; None if they don't fit the mesh."""
        data, rest = divmod(workers, self.replica)
        least, most = self.data_range
        if rest or not least <= data <= most:
            return None
        return {"data": data, **{a: getattr(self, a) for a in AXES if a != "data"}}

    def describe(self) -> str:
        """`data 2 x tensor 2 = 4`."""
        least, most = self.data_range
        named = {"data": str(most) if least == most else f"{least} to {most}"}
        named |= {axis: str(getattr(self, axis)) for axis in AXES if axis != "data"}
        used = [f"{axis} {size}" for axis, size in named.items() if size != "1"]
        total = str(self.workers) if least == most else f"{self.least_workers} to {self.workers}"
        return f"{' x '.join(used) or 'data 1'} = {total}"


class DataParallel(Strict):
    """How replicas average their gradients (DDP; only where `data` is the only axis)."""

    bucket_mb: float = Field(25, gt=0, description="Size of a gradient bucket (MB).")
    compress: Literal["none", "fp16", "bf16", "powersgd"] = Field(
        "none", description="Gradient compression: none, 16 bits, or low rank (PowerSGD)."
    )
    find_unused: bool | None = Field(
        None,
        description="Whether parameters may be without gradient in some steps, as in branches that "
        "not every batch takes; it costs a pass over the graph. None: if one batch leaves any out.",
    )
    powersgd_rank: int = Field(1, ge=1, description="Rank of PowerSGD (a count).")
    powersgd_after: int = Field(
        1000, ge=2, description="Steps without compression before PowerSGD starts (a count)."
    )


class Sharding(Strict):
    """How the axis `shard` splits the weights (FSDP2)."""

    reshard_after_forward: bool = Field(
        True, description="Free a block's gathered weights between forward and backward pass."
    )
    compute: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Data type of gathered weights and computation."
    )
    reduce: Literal["fp32", "bf16"] = Field(
        "fp32", description="Data type of the gradient reduction."
    )
    cpu_offload: bool = Field(
        False, description="Keep shards, gradients and optimizer state in CPU memory (GPU only)."
    )


class TensorParallel(Strict):
    """How the axis `tensor` splits the layers."""

    plan: NameOrPath = Field(
        "auto",
        description="auto: the model's tensor_parallel_plan(), transformers' plan for it, or one "
        "derived from how layers are connected; else an import path 'module:function' of (model, "
        "sequence) -> {layer pattern: style}.",
    )
    sequence: bool = Field(
        False, description="Sequence parallel: split activations along dim 1 between the layers."
    )


class Pipeline(Strict):
    """How the axis `pipeline` distributes the layers, and how micro-batches flow."""

    schedule: Literal["gpipe", "1f1b", "interleaved-1f1b"] = Field(
        "1f1b", description="Order of forward and backward passes."
    )
    microbatches: int = Field(4, ge=1, description="Micro-batches per worker and step (a count).")
    stages_per_worker: int = Field(
        2, ge=2, description="Stages per worker with interleaved-1f1b (a count)."
    )
    split: NameOrPath = Field(
        "auto",
        description="auto: the model's pipeline_split() or an nn.Sequential's parts, balanced by "
        "measured cost; else an import path 'module:function' of (model) -> names.",
    )

    @property
    def stages_each(self) -> int:
        return self.stages_per_worker if self.schedule == "interleaved-1f1b" else 1


class Parallel(Strict):
    """Settings of each kind of parallelism; used if the mesh has its axis."""

    data: DataParallel = Field(DataParallel(), description="Settings of the axis data.")
    shard: Sharding = Field(Sharding(), description="Settings of the axis shard.")
    tensor: TensorParallel = Field(TensorParallel(), description="Settings of the axis tensor.")
    pipeline: Pipeline = Field(Pipeline(), description="Settings of the axis pipeline.")
