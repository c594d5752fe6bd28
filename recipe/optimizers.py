"""Optimizers and learning-rate schedules that a recipe can name."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .strict import ImportPath, Strict, mistake


class _Optimizer(Strict):
    """Fields of all optimizers.

    Attributes:
        needs_whole_matrices: Whether its update needs whole matrices, so that the mesh must not
            split them.
    """

    needs_whole_matrices: ClassVar[bool] = False

    lr: float
    decay_all: bool = Field(
        False,
        description="Also decay norm weights and biases, not only matrices and kernels.",
    )

    @property
    def states(self) -> int:
        """Number of state values per element of a parameter."""
        return 2

    def slower(self, share: float) -> Self:
        """The same optimizer with its learning rates multiplied by a share."""
        return self.model_copy(update={"lr": self.lr * share})


class Sgd(_Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant of it."""

    name: Literal["sgd"] = Field(description="torch.optim.SGD")
    lr: float = Field(0.1, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0: none.")
    nesterov: bool = Field(False, description="Nesterov momentum.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise mistake("nesterov", "nesterov needs a momentum above 0")
        return self

    @property
    def states(self) -> int:
        return 1 if self.momentum else 0


class Adam(_Optimizer):
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980)."""

    name: Literal["adam"] = Field(description="torch.optim.Adam")
    lr: float = Field(0.001, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="Decay rates of the two moving averages."
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty.")


class AdamW(_Optimizer):
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101)."""

    name: Literal["adamw"] = Field(description="torch.optim.AdamW")
    lr: float = Field(0.001, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="Decay rates of the two moving averages."
    )
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")


class NAdam(_Optimizer):
    """Adam with Nesterov momentum (Dozat, 2016)."""

    name: Literal["nadam"] = Field(description="torch.optim.NAdam")
    lr: float = Field(0.002, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="Decay rates of the two moving averages."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")


class Adafactor(_Optimizer):
    """Adafactor: second moments in factored form (https://arxiv.org/abs/1804.04235)."""

    needs_whole_matrices: ClassVar[bool] = True

    name: Literal["adafactor"] = Field(description="torch.optim.Adafactor")
    lr: float = Field(0.01, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")

    @property
    def states(self) -> int:
        return 0


class Muon(_Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) for the matrices of the hidden layers,
    AdamW for embeddings, norms, biases and the last layer.
    """

    needs_whole_matrices: ClassVar[bool] = True

    name: Literal["muon"] = Field(description="torch.optim.Muon, with torch.optim.AdamW")
    lr: float = Field(0.02, gt=0, description="Peak learning rate of the matrices.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Momentum of the matrices.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay.")
    adamw_lr: float = Field(0.001, gt=0, description="Peak learning rate of all other parameters.")

    @property
    def states(self) -> int:
        return 1

    def slower(self, share: float) -> Self:
        return self.model_copy(update={"lr": self.lr * share, "adamw_lr": self.adamw_lr * share})


class Lamb(_Optimizer):
    """LAMB, for large batches (https://arxiv.org/abs/1904.00962)."""

    needs_whole_matrices: ClassVar[bool] = True

    name: Literal["lamb"] = Field(description="pytorch_optimizer.Lamb (extra: large-batch)")
    lr: float = Field(0.002, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="Decay rates of the two moving averages."
    )
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")


class Lars(_Optimizer):
    """LARS, for large batches (https://arxiv.org/abs/1708.03888)."""

    needs_whole_matrices: ClassVar[bool] = True

    name: Literal["lars"] = Field(description="pytorch_optimizer.LARS (extra: large-batch)")
    lr: float = Field(1.0, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    weight_decay: float = Field(0.0001, ge=0, description="L2 penalty.")

    @property
    def states(self) -> int:
        return 1


class Imported(_Optimizer):
    """Your own optimizer, by its import path."""

    name: Literal["import"] = Field(description="Your own optimizer class or factory.")
    factory: ImportPath = Field(
        description="Import path 'module:function' of (parameters, lr, **args) -> torch Optimizer.",
    )
    lr: float = Field(0.001, gt=0, description="Peak learning rate.")
    args: dict[str, Any] = Field({}, description="Additional keyword arguments.")


Optimizer = Annotated[
    Sgd | Adam | AdamW | NAdam | Adafactor | Muon | Lamb | Lars | Imported,
    Field(discriminator="name"),
]


class Schedule(Strict):
    """How the learning rate changes from the first step to the last."""

    name: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="Shape after warm-up; cosine and linear end at `final`."
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps used for warm-up from 0."
    )
    final: float = Field(
        0.0, ge=0, le=1, description="Final rate as a share of the peak (cosine and linear)."
    )
