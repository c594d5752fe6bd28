"""What the layout of a run depends on beside its recipe: the machine, and what runs there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ray_workers.cluster import cores
from ...ray_workers.processor import Processor, processor
from ...recipe.targets import AnyTarget
from ...tasks.compile import Unavailable, target_functions


@dataclass(frozen=True)
class Surroundings:
    """Attributes:
    cores: CPU cores that a measurement reserves (a count).
    processor: What candidates are for.
    availability: None for a target that runs here, else why it does not.
    """

    cores: float
    processor: Processor
    availability: Callable[[AnyTarget], Unavailable | None]


def here() -> Surroundings:
    """Those of this machine."""
    return Surroundings(
        cores=cores(),
        processor=processor(),
        availability=lambda target: target_functions(target.kind).availability(target),
    )
