"""The device mesh: each worker's place, and the groups that values are summed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ....recipe.errors import InputError
from ....recipe.parallel import Mesh

#: Outermost first: workers along the last axes communicate most, and get adjacent ranks.
ORDER = ("pipeline", "data", "shard", "context", "tensor")
#: Workers along these axes get different samples.
SAMPLES = ("data", "shard")


@dataclass(frozen=True)
class Axes:
    """This worker's place in the mesh.

    Attributes:
        rank: Its rank.
        world: Number of workers.
        device: Its device.
        sizes: Workers along each axis.
        at: Its place along each axis.
        mesh: Torch's device mesh; None without a process group.
    """

    rank: int
    world: int
    device: torch.device
    sizes: dict[str, int]
    at: dict[str, int]
    mesh: DeviceMesh | None

    @staticmethod
    def of_this_worker(mesh: Mesh) -> Axes:
        """Axes of this worker in the current process group.

        Raises:
            InputError: The group's size is not the product of the mesh.
        """
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())
        if not dist.is_initialized():
            return Axes.alone(device)
        rank, world = dist.get_rank(), dist.get_world_size()
        sizes = mesh.sizes(world)
        if sizes is None:
            raise InputError(
                f"the process group has {world} workers, the mesh asks for {mesh.describe()}",
                where="train.mesh",
                do="start as many workers as the product of the mesh's axes",
            )
        made = init_device_mesh(
            device.type, tuple(sizes[axis] for axis in ORDER), mesh_dim_names=ORDER
        )
        coordinate = made.get_coordinate()
        assert coordinate is not None  # noqa: S101 (narrows a type)
        return Axes(rank, world, device, sizes, dict(zip(ORDER, coordinate, strict=True)), made)

    @staticmethod
    def alone(device: torch.device | None = None) -> Axes:
        """One worker, without a process group."""
        return Axes(
            0,
            1,
            device or torch.device("cpu"),
            dict.fromkeys(ORDER, 1),
            dict.fromkeys(ORDER, 0),
            None,
        )

    def __getitem__(self, axis: str) -> int:
        """Workers along an axis."""
        return self.sizes[axis]

    @property
    def readers(self) -> int:
        """Number of parts of a global batch."""
        return self["data"] * self["shard"]

    @property
    def reader(self) -> int:
        """Index of this worker's part."""
        return self.at["data"] * self["shard"] + self.at["shard"]

    @property
    def is_last_stage(self) -> bool:
        return self.at["pipeline"] == self["pipeline"] - 1

    @property
    def owns_outputs(self) -> bool:
        """Whether this worker is the one, among those with the same part of the batch, whose
        outputs are used.
        """
        return self.is_last_stage and self.at["tensor"] == 0 and self.at["context"] == 0

    def sub(self, *axes: str) -> DeviceMesh:
        """The mesh along some axes."""
        assert self.mesh is not None  # noqa: S101 (narrows a type)
        return self.mesh[axes]

    def group(self, axis: str) -> Any:
        """The process group along an axis; None if it has one worker."""
        return self.mesh.get_group(axis) if self.mesh is not None and self[axis] > 1 else None

    def sum(self, value: torch.Tensor, *axes: str) -> torch.Tensor:
        """A tensor summed over the workers along some axes, in place."""
        for axis in axes:
            if (group := self.group(axis)) is not None:
                dist.all_reduce(value, group=group)
        return value

    def everywhere(self, value: torch.Tensor) -> torch.Tensor:
        """A tensor summed over all workers, in place."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()
