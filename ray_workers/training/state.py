"""The complete state of a training: the content of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .checkpoints import EMA, MODEL, Checkpoint, Checkpoints
from .ema import Ema
from .optimizer_state import State, blank_optimizer_state, optimizer_state
from .parallel.parallelize import Placed


@dataclass(frozen=True)
class TrainState:
    """This worker's part of a training's state.

    Attributes:
        placed: The model.
        optimizers: Of its parameters.
        ema: The average of its weights, if there is one.
        scaler: Of the loss.
    """

    placed: Placed
    optimizers: list[torch.optim.Optimizer]
    ema: Ema | None
    scaler: torch.amp.GradScaler

    def tensors(self) -> State:
        """Its tensors by their names in the whole."""
        return self._weights() | optimizer_state(self.optimizers, self.placed.parameters())

    def values(self) -> dict[str, Any]:
        """The rest of it, plain values that are the same on every worker."""
        return {"scaler": self.scaler.state_dict()}

    def load(self, checkpoints: Checkpoints, found: Checkpoint) -> None:
        """Load a checkpoint, whichever mesh wrote it; every worker calls it.

        Raises:
            InputError: The checkpoint is of another model.
        """
        names = checkpoints.names(found)
        optimizer = blank_optimizer_state(self.optimizers, self.placed.parameters(), names)
        checkpoints.load(found, self._weights() | optimizer)
        self.scaler.load_state_dict(found.rest["scaler"])

    def _weights(self) -> State:
        state = {f"{MODEL}{name}": value for name, value in self.placed.state().items()}
        if self.ema is not None:
            state |= {f"{EMA}{name}": value for name, value in self.ema.values.items()}
        return state
