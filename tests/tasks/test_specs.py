"""Specs and facts: each step's function names the type that its step declares, and JSON keeps them."""

from __future__ import annotations

import importlib
import json
import typing
from typing import Any

import pytest
from prefect_hone.ray_workers.dispatch import StepJob, execute
from prefect_hone.recipe.errors import HoneError
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.passes import Pass
from prefect_hone.recipe.targets import all_targets
from prefect_hone.recipe.training import Train
from prefect_hone.tasks.specs.benchmark import BenchmarkFacts
from prefect_hone.tasks.specs.check import looked_at
from prefect_hone.tasks.steps import (
    BENCHMARK,
    CHECK,
    EXPORT,
    REFERENCE,
    TRAIN,
    VALIDATE,
    Step,
    compile_step,
    graph_pass_step,
    module_pass_step,
)
from pydantic import TypeAdapter

PASSES = [
    {"kind": "prune", "method": "channel", "ratio": 0.5},
    {"kind": "distill", "factory": "mine:student", "epochs": 1},
    {"kind": "low-rank", "energy": 0.9},
    {"kind": "qat", "epochs": 1},
    {"kind": "quantize", "scheme": "static-int8"},
    {"kind": "fold"},
    {"kind": "import", "factory": "mine:noisy", "works_on": "graph"},
    {"kind": "import", "factory": "mine:noisy", "works_on": "module"},
]


def steps() -> list[Step[Any]]:
    passes = [TypeAdapter(Pass).validate_python(fields) for fields in PASSES]
    return [
        CHECK, TRAIN, REFERENCE, EXPORT, VALIDATE, BENCHMARK,
        *(module_pass_step(p) if p.works_on == "module" else graph_pass_step(p) for p in passes),
        *map(compile_step, all_targets()),
    ]  # fmt: skip


@pytest.mark.parametrize("step", steps(), ids=lambda step: step.function.partition(":")[0][13:])
def test_a_steps_function_takes_what_its_step_declares(step: Step[Any]) -> None:
    module, _, name = step.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    (wanted,) = typing.get_args(typing.get_type_hints(function)["work"])
    assert step.spec in (wanted, *typing.get_args(wanted))


def test_a_wrong_field_is_named_before_the_step_runs(tmp_path: Any) -> None:
    job = StepJob(
        function=EXPORT.function, key="k", lineage="k", spec={"modle": {}}, inputs={}, code=None,
        allowed=Allowed(), store=str(tmp_path), cache=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(HoneError, match="ExportSpec"):
        execute(job, lambda _: None)


def test_facts_survive_json() -> None:
    timing = {
        "p50_ms": 1.0, "p50_ms_low": 0.9, "p50_ms_high": 1.1, "p90_ms": 1.2, "p99_ms": 1.3,
        "calls": 10, "samples_per_s": 1000.0, "ratio": 2.0, "ratio_low": 1.9, "ratio_high": 2.1,
        "rounds": [[0.001, 0.002], [0.001, 0.001]],
    }  # fmt: skip
    facts = BenchmarkFacts.model_validate(
        {
            "measured": {"int8@x": {"8": timing}},
            "memory": {"int8@x": 5},
            "failed": {"fp32@x": {"type": "StepCrashed", "what": "it died"}},
        }
    )
    again = BenchmarkFacts.model_validate(json.loads(facts.model_dump_json()))
    assert again == facts
    assert again.timing("int8@x", 8).rounds == timing["rounds"]


def test_the_check_looks_at_placement_memory_and_duration_only() -> None:
    train = Train(epochs=7, batch_size=32, label_smoothing=0.1, seed=3)
    seen = looked_at(train)
    assert seen.batch_size == 32
    rounded = [looked_at(Train(epochs=e, batch_size=1)).epochs for e in (0, 1, 2, 10, 11, 1000)]
    assert rounded == [0, 1, 10, 10, 100, 1000]
    assert (seen.epochs, seen.label_smoothing, seen.seed) == (10, 0.0, 0)
