"""The model and the data of a recipe: factories, or files to take a model from."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from .factories import READ
from .strict import ImportPath, Strict, mistake


class Factory(Strict):
    """A function of yours, named by its import path, and what to call it with."""

    factory: ImportPath = Field(description="Import path 'module:function' of the factory.")
    args: dict[str, Any] = Field({}, description="Keyword arguments of the factory.")


#: What READ was called in recipes that MLflow keeps from before the readers moved.
_FORMER_READ = "prefect_hone.ray_workers.sources:read"


class ModelFactory(Factory):
    """The model: a factory that returns a `torch.nn.Module`, or a file to take it from."""

    factory: ImportPath = Field(READ, description="Import path 'module:function' of the factory.")
    source: str | None = Field(
        None,
        description="Instead of a factory: an .onnx, .pt2 or .keras file, a transformers folder, "
        "or an MLflow model (models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/NAME).",
    )
    weights: str | None = Field(
        None,
        description="Path or fsspec URL of a safetensors file that the model starts with; with "
        "train.epochs 0 they are the model.",
    )

    output: str | None = Field(
        None,
        description="Which of several outputs the loss and quality look at: its name in the "
        "dictionary or dataclass that the model returns, or output_0, output_1, ... in a tuple; "
        "none: logits if there is one, else the first. All outputs are exported and served.",
    )
    dynamic_axes: dict[str, dict[int, str]] = Field(
        {},
        description="Axes of inputs, besides the batch, that stay of any size: from an input's "
        "name and the axis to a name (tokens: {1: length}); the one input of a model is called "
        "input. Axes that differ in the data are found without this.",
    )

    @field_validator("factory", mode="before")
    @classmethod
    def _moved(cls, value: Any) -> Any:
        return READ if value == _FORMER_READ else value

    @model_validator(mode="after")
    def _one_origin(self) -> ModelFactory:
        if self.source is None and self.factory == READ and "path" not in self.args:
            raise mistake("origin", "give the model's factory, or its source")
        if self.source is not None and (self.factory != READ or self.args):
            raise mistake("origin", "give either a factory with args, or a source")
        return self


class DataFactory(Factory):
    """The factory of the data; it returns a `prefect_hone.Data`."""

    version: str | None = Field(
        None,
        description="Change it when the data behind the same arguments has changed, so that "
        "results computed from the old data are not reused.",
    )
    target: str | None = Field(
        None,
        description="Of several targets in a dictionary or tuple, the name of the one that named "
        "losses, named metrics and groups by label look at (of a tuple: target_0, target_1, ...); "
        "by default the first. Losses and metrics of your own get all of them.",
    )
