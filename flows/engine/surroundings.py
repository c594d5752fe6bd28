"""What the layout of a run depends on besides its recipe: the machine, and which targets it has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...ray_workers.cluster import cores
from ...ray_workers.processor import Processor, processor
from ...recipe.factories import Allowed, use_code
from ...recipe.targets import AnyTarget, ImportedTarget
from ...tasks.compile import Unavailable, target_functions


@dataclass(frozen=True)
class Surroundings:
    """Attributes:
    cores: CPU cores that a measurement reserves (a count).
    processor: The processor that candidates are made for.
    availability: Returns None for a target that runs here, else why it does not.
    """

    cores: float
    processor: Processor
    availability: Callable[[AnyTarget], Unavailable | None]


def here(allowed: Allowed, code: Path | None) -> Surroundings:
    """The surroundings on this machine.

    Args:
        allowed: What may be named by import path, for the user's own targets.
        code: The recipe's code folder.
    """

    def availability(target: AnyTarget) -> Unavailable | None:
        if not isinstance(target, ImportedTarget):
            return target_functions(target.kind).availability(target)
        from ...tasks.compile.imported import availability_of

        if code is not None:
            use_code(code)
        with contextlib.redirect_stdout(sys.stderr):
            return availability_of(target, allowed)

    return Surroundings(cores=cores(), processor=processor(), availability=availability)
