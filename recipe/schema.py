"""The recipe: everything that a user asks for, in one frozen model.

YAML, TOML, Python and the form in the Prefect UI share these fields, so every field has a
description with its unit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from .benchmark import Benchmark
from .gate_checks import check_measured
from .gates import Gate, Gates, Select
from .limits import odd_value
from .measures import find_measure, is_of_champion
from .metrics import LOSSES
from .model import DataFactory, ModelFactory
from .passes import Pass
from .proofs import Proofs
from .quality import Quality
from .registry_names import (
    ALIAS,
    LONGEST_ALIAS,
    LONGEST_MODEL,
    MODEL,
    alias_problem,
    model_problem,
)
from .strict import IMPORT_PATH, Strict, import_paths, mistake, one_of
from .targets import Target, expanded
from .training import Train

_NAME = r"^[a-z0-9][a-z0-9_-]*$"
#: Names are joined in MLflow's and in files' names, which have at most 250 characters.
_LONGEST = 100


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise mistake("twice", "the {what} '{name}' is defined twice", what=what, name=name)


class Variant(Strict):
    """A named chain of passes."""

    name: str = Field(pattern=_NAME, max_length=_LONGEST, description="Name of the variant.")
    passes: tuple[Pass, ...] = Field((), description="Passes, in order; empty: uncompressed.")

    @model_validator(mode="after")
    def _order(self) -> Variant:
        seen_graph: str | None = None
        kinds: list[str] = []
        for step in self.passes:
            if step.works_on == "module" and seen_graph is not None:
                raise mistake(
                    "order",
                    "'{late}' works on the torch module and can't follow '{early}', which works "
                    "on the exported graph: put '{late}' first",
                    late=step.name,
                    early=seen_graph,
                )
            if step.works_on == "graph":
                seen_graph = step.name
            if step.kind in kinds and not step.repeatable:
                raise mistake("order", "'{kind}' can appear only once in a chain", kind=step.kind)
            kinds.append(step.kind)
        return self


class Registry(Strict):
    """Where the winner goes in the MLflow model registry."""

    model: str = Field(
        min_length=1,
        max_length=LONGEST_MODEL,
        pattern=MODEL,
        description="Name of the registered model.",
    )
    alias: str = Field(
        "champion",
        max_length=LONGEST_ALIAS,
        pattern=ALIAS,
        description="Alias for the winner; the replaced version gets the alias 'previous'.",
    )
    proof: Literal["inputs", "synthetic", "off"] = Field(
        "inputs",
        description="Inputs that a model carries, with the outputs that were measured for them, to "
        "prove itself where it is loaded: 'inputs' are 8 rows of the test data; 'synthetic' are "
        "random ones, so no data leave with the model; 'off' carries none, and no example.",
    )

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        if problem := model_problem(value):
            raise mistake("model", "the name '{name}' {problem}", name=value, problem=problem)
        return value

    @field_validator("alias")
    @classmethod
    def _free(cls, value: str) -> str:
        if problem := alias_problem(value):
            raise mistake("alias", "the alias '{alias}' {problem}", alias=value, problem=problem)
        return value


#: What is done with the winner.
PromotionMode = Literal["off", "dry-run", "approve", "auto"]


class Timeouts(Strict):
    """How long a step may take before it is stopped."""

    train: float = Field(86_400, gt=0, description="Training (s).")
    step: float = Field(1_800, gt=0, description="Every other step (s).")


def digest_of(fields: Mapping[str, Any]) -> str:
    """sha256 of fields of a recipe, as they are: another version of Hone may have other fields."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Recipe(Strict):
    """What a user asks for: model, data, variants, targets, gates, and where the winner goes."""

    name: str = Field(
        pattern=_NAME,
        max_length=_LONGEST,
        description="Name of the recipe, and of its MLflow experiment.",
    )
    code: str | None = Field(
        None,
        description="Your code folder, shipped to the workers and put on their import path; "
        "only for a recipe file run from the command line.",
    )
    code_files: tuple[str, ...] = Field(
        (),
        description="Data files in the code folder that are shipped with the modules although "
        "neither they nor the recipe's arguments name them: paths in it, with `*`.",
    )
    model: ModelFactory = Field(description="The model, and its weights if any.")
    data: DataFactory = Field(description="The factory of the data.")
    quality: Quality = Field(Quality(), description="What 'good' means.")
    proofs: Proofs = Field(
        Proofs(), description="What is looked at besides quality and speed, each with its switch."
    )
    train: Train = Field(description="How to train.")
    variants: tuple[Variant, ...] = Field(
        (Variant(name="fp32"),), min_length=1, description="Variants to create."
    )
    targets: tuple[Target, ...] = Field(
        min_length=1, description="Runtimes to compile each variant for."
    )
    benchmark: Benchmark = Field(Benchmark(), description="How to benchmark.")
    gates: Gates = Field(
        (),
        description="Limits that a winner must meet. Without any, the defaults hold: quality lost "
        "at most the half-width of the trained model's 95 % interval or 1 %, whichever is more; an "
        "uncompressed candidate within rounding of the trained model; nothing slower and larger "
        "than the trained model in PyTorch eager. 'none' turns all of them off.",
    )
    select: Select = Field(
        Select(minimize="latency.p50_ms"), description="Which candidate wins among those that pass."
    )
    registry: Registry = Field(description="Where the winner is registered.")
    promotion: PromotionMode = Field(
        "auto",
        description="What to do with the winner: 'off' registers nothing; 'dry-run' registers it "
        "and tags what a promotion would do; 'approve' registers it and asks a person; 'auto' "
        "moves the alias.",
    )
    timeouts: Timeouts = Field(Timeouts(), description="Time limits of steps.")

    @model_validator(mode="after")
    def _ordinary(self) -> Recipe:
        """Refuse what no recipe has, also where it did not come as text."""
        odd = odd_value(self)
        if odd is not None:
            where = ".".join(map(str, odd[0])) or "recipe"
            raise mistake("value", "{where}: {said}", where=where[:200], said=odd[1])
        return self

    @field_validator("targets", mode="before")
    @classmethod
    def _tried(cls, value: Any) -> Any:
        return expanded(value)

    @field_validator("train")
    @classmethod
    def _known_loss(cls, value: Train) -> Train:
        if ":" not in value.loss:
            one_of(value.loss, LOSSES, "loss")
        elif re.fullmatch(IMPORT_PATH, value.loss) is None:
            raise mistake("loss", "an import path looks like 'module:function'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        _unique("variant", [v.name for v in self.variants])
        _unique("target", [t.name for t in self.targets])
        sizes = self.benchmark.batch_sizes
        for what, size in [
            *((f"gates.{i}", g.batch_size) for i, g in enumerate(self.own_gates)),
            ("select", self.select.batch_size),
        ]:
            if size is not None and size not in sizes:
                raise mistake(
                    "batch_size",
                    "{what} asks for batch size {size}, which benchmark.batch_sizes {sizes} "
                    "does not time",
                    what=what,
                    size=size,
                    sizes=list(sizes),
                )
        if self.quality.outputs == "all" and self.train.mesh.pipeline > 1:
            raise mistake(
                "outputs",
                "quality.outputs: a pipeline's last stage gives one output: set "
                "train.mesh.pipeline to 1",
            )
        check_measured(self)
        return self

    @property
    def own_gates(self) -> tuple[Gate, ...]:
        """The gates that it names itself."""
        return () if isinstance(self.gates, str) else self.gates

    @property
    def asked(self) -> tuple[tuple[str, int | None], ...]:
        """Every measure that a gate or `select` names, each with its batch size."""
        gates = ((gate.judged, gate.batch_size) for gate in self.own_gates)
        return (*gates, (self.select.metric, self.select.batch_size))

    def asks(self, measure: str) -> bool:
        """Whether a gate or `select` names a measure, or a bound of it."""
        found = (find_measure(name) for name, _ in self.asked)
        return any(one is not None and one.name == measure for one in found)

    @property
    def grouped_by(self) -> tuple[str, ...]:
        """By what quality is measured for each group; nothing if that is turned off."""
        return (self.quality.groups or ()) if self.proofs.groups else ()

    @property
    def checked_proofs(self) -> Proofs | None:
        """What the inputs must be fit for: None if nothing that changes inputs is asked for
        explicitly, by a gate, `select` or a field of `proofs`.
        """
        measures = [find_measure(name) for name, _ in self.asked]
        named = any(m is not None and m.proof in ("robustness", "explanation") for m in measures)
        if not self.proofs.of_inputs or not (named or self.proofs.is_asked):
            return None
        return self.proofs.for_input()

    @property
    def compares_with_champion(self) -> bool:
        """Whether a gate or `select` names a measure that compares with today's champion."""
        return any(is_of_champion(name) for name, _ in self.asked)

    def factories(self) -> list[tuple[str, str]]:
        """Every import path in it, with the field that it is in."""
        return list(import_paths(self))

    def digest(self) -> str:
        """sha256 of all fields but `promotion`; the same in every process, in whatever order they
        were given.

        Who moves the alias changes nothing of what was measured.
        """
        return digest_of(self.digested())

    def digested(self) -> dict[str, Any]:
        """The fields that the digest is of."""
        return self.model_dump(mode="json", exclude={"promotion"})

    def __hash__(self) -> int:
        return int(self.digest()[:15], 16)
