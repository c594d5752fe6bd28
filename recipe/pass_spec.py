"""What all specs of passes have in common."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .strict import Strict

WorksOn = Literal["module", "graph"]


class PassSpec(Strict):
    """What the layout of a run needs to know of every pass.

    Attributes:
        works_on: Whether it changes the torch module or the exported graph.
        repeatable: Whether a chain may contain it twice.
        calls_user_code: Whether it calls the recipe's factories of model or data.
        depends_on_processor: Whether its result depends on the kind of processor.
    """

    works_on: ClassVar[WorksOn]
    repeatable: ClassVar[bool]
    calls_user_code: ClassVar[bool]
    depends_on_processor: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.kind)  # type: ignore[attr-defined]  # each member has its own

    @property
    def wish(self) -> str:
        """What a target that can't do it says that it can't."""
        return self.name

    @property
    def trains(self) -> bool:
        """Whether it trains, on its own workers."""
        return False

    @property
    def looks_at_validation(self) -> bool:
        """Whether it measures quality on the validation split."""
        return False


class ModulePass(PassSpec):
    works_on: ClassVar[WorksOn] = "module"
    repeatable: ClassVar[bool] = True
    calls_user_code: ClassVar[bool] = True


class RecoveredPass(ModulePass):
    """A pass that may be followed by recovery training."""

    recover_epochs: int = Field(
        0, ge=0, description="Epochs of recovery training after the pass (a count)."
    )
    recover_lr_scale: float = Field(
        0.3, gt=0, le=10, description="Learning rate of the recovery, relative to the recipe's."
    )
    recover_teacher: bool = Field(
        False, description="Use the model before this pass as teacher in the recovery."
    )

    @property
    def trains(self) -> bool:
        return self.recover_epochs > 0


class GraphPass(PassSpec):
    works_on: ClassVar[WorksOn] = "graph"
    repeatable: ClassVar[bool] = False
    calls_user_code: ClassVar[bool] = False
