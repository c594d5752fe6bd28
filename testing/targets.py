"""Tests of a target: does it run here, does it agree with PyTorch, what does it refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from ..ray_workers.data.calling import call_model, tensors
from ..ray_workers.metrics import Array
from ..ray_workers.model.module import load_module
from ..ray_workers.model.onnx_files import load_inputs
from ..ray_workers.runtime_process import RuntimeProcess, interpreter_for
from ..recipe.errors import HoneError
from ..recipe.schema import Recipe
from ..recipe.targets import AnyTarget
from ..runtimes.predict import Arrays
from ..tasks.compile import Unavailable
from ..tasks.keys import closure
from ..tasks.specs.validate import ValidateSpec
from .workshop import SAMPLES, LaidStep, Workshop

#: Modules that opening an artifact must not import: a server has the runtime, not all of Hone.
_HEAVY = ("prefect", "ray", "mlflow", "pydantic")


@dataclass(frozen=True)
class TargetCase:
    """A target, and how close it is to PyTorch.

    Attributes:
        asked: The target as in a recipe: its kind, or a dictionary.
        largest_error: Largest absolute difference of the outputs from PyTorch's.
        batch_sizes: Batch sizes to predict; the benchmark's are 1 and 32.
        model: Import path of the factory of the model to try it on.
        refused_model: One that it can't compile, or that can't be exported for it; None: there is
            none.
        said: What the refusal must name, such as the operator.
        fields: Instead of fields of the recipe, such as `data` for a model of yours.
    """

    asked: str | dict[str, Any]
    largest_error: float = 1e-4
    batch_sizes: tuple[int, ...] = (1, 3, 32)
    model: str = f"{SAMPLES}:conv_net"
    refused_model: str | None = f"{SAMPLES}:unknown_operator"
    said: str = "airy"
    fields: dict[str, Any] = field(default_factory=dict)


class TargetTestSuite:
    """Subclass it, and provide the fixture `case`; if your code is not in an installed package,
    also the fixture `workshop`.
    """

    @pytest.fixture
    def case(self) -> TargetCase:
        raise NotImplementedError("give the suite a fixture `case` that returns a TargetCase")

    @pytest.fixture(scope="class")
    def workshop(self, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
        return Workshop(tmp_path_factory.mktemp("workshop"))

    @pytest.fixture
    def recipe(self, case: TargetCase, workshop: Workshop) -> Recipe:
        return _recipe(workshop, case, case.model)

    @pytest.fixture
    def compiled(self, recipe: Recipe, workshop: Workshop) -> LaidStep:
        unavailable = workshop.availability(_asked(recipe))
        if unavailable is not None:
            pytest.skip(f"{unavailable.reason} ({unavailable.do})")
        return _compile(workshop, recipe)

    @pytest.fixture
    def runtime(
        self, compiled: LaidStep, recipe: Recipe, workshop: Workshop
    ) -> Iterator[RuntimeProcess]:
        spec = _validation(workshop, recipe)
        options = workshop.loader_options(spec.options)
        python = interpreter_for(spec.environment)
        with RuntimeProcess(spec.loader, compiled.folder("model"), options, python=python) as made:
            made.wait_loaded()
            yield made

    def test_a_recipe_holds_it_and_gives_it_back(self, recipe: Recipe) -> None:
        assert Recipe.model_validate(json.loads(recipe.model_dump_json())) == recipe
        assert _asked(recipe).name

    def test_every_field_says_what_it_is(self, recipe: Recipe) -> None:
        for name, info in type(_asked(recipe)).model_fields.items():
            assert (info.description or "").strip(), f"{name} has no description"

    def test_it_says_whether_it_runs_here(self, recipe: Recipe, workshop: Workshop) -> None:
        said = workshop.availability(_asked(recipe))
        assert said is None or isinstance(said, Unavailable)
        if said is not None:
            assert said.reason, "why not"
            assert said.do, "what to do"

    def test_its_code_is_in_the_cache_key(self, compiled: LaidStep, recipe: Recipe) -> None:
        step = compiled.call.step
        assert step.module in closure(step.module, *step.lends, *compiled.call.loads).modules
        if _asked(recipe).kind == "import":
            assert step.runs_user_code, "the digest of your code is in the key"

    def test_it_agrees_with_pytorch_for_every_batch_size(
        self,
        case: TargetCase,
        compiled: LaidStep,
        recipe: Recipe,
        runtime: RuntimeProcess,
        workshop: Workshop,
    ) -> None:
        layout = workshop.lay_out(recipe)
        inputs = load_inputs(layout.check.folder("samples"))
        for size in case.batch_sizes:
            batch = {
                name: np.resize(value, (size, *value.shape[1:])) for name, value in inputs.items()
            }
            expected = _by_pytorch(layout.train, recipe, batch)
            outputs = runtime.predict(batch)
            assert outputs.shape == expected.shape
            np.testing.assert_allclose(outputs, expected, atol=case.largest_error)

    @pytest.mark.nightly
    def test_it_answers_corrupted_and_occluded_inputs_as_pytorch_does(
        self, compiled: LaidStep, recipe: Recipe, workshop: Workshop
    ) -> None:
        measured: dict[str, float] = {}
        for look in workshop.lay_out(recipe).candidates[0].looks:
            assert (look.done.facts or {})["not_looked_at"] is None
            measured |= look.done.metrics
        assert abs(measured["robustness/worst_drop"]) < 0.05
        assert measured["explanation/agreement"] > 0.95

    def test_it_says_what_it_did(self, compiled: LaidStep) -> None:
        done = compiled.done
        json.dumps([done.params, done.metrics, done.notes])
        assert done.outputs["model"].kind

    def test_opening_it_imports_no_more_than_its_runtime(
        self, case: TargetCase, compiled: LaidStep, recipe: Recipe, workshop: Workshop
    ) -> None:
        spec = _validation(workshop, recipe)
        if spec.environment is not None:
            pytest.skip("it is opened in an environment of its own, where nothing else is")
        module, _, function = spec.loader.partition(":")
        code = (
            "import importlib, json, pathlib, sys\n"
            "module, function, folder, options, heavy = json.loads(sys.argv[1])\n"
            "load = getattr(importlib.import_module(module), function)\n"
            "load(pathlib.Path(folder), options)\n"
            "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
        )
        options = workshop.loader_options(spec.options)
        said = [module, function, str(compiled.folder("model")), options, list(_HEAVY)]
        done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
            [sys.executable, "-c", code, json.dumps(said)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == []

    def test_an_operator_that_it_does_not_have_is_named(
        self, case: TargetCase, compiled: LaidStep, workshop: Workshop
    ) -> None:
        if case.refused_model is None:
            pytest.skip("the case names no model that it refuses")
        step = _compile(workshop, _recipe(workshop, case, case.refused_model))
        with pytest.raises(HoneError) as refused:
            step.run()
        assert case.said in str(refused.value)


def _recipe(workshop: Workshop, case: TargetCase, model: str) -> Recipe:
    benchmark = {"batch_sizes": [1, 32]}
    return workshop.recipe(
        model, **{"targets": [case.asked], "benchmark": benchmark, **case.fields}
    )


def _asked(recipe: Recipe) -> AnyTarget:
    return recipe.targets[0]


def _compile(workshop: Workshop, recipe: Recipe) -> LaidStep:
    compiled = workshop.lay_out(recipe).candidates[0].compiled
    assert compiled is not None
    return compiled


def _validation(workshop: Workshop, recipe: Recipe) -> ValidateSpec:
    """The spec of a candidate's validation, which says how the artifact is opened."""
    validated = workshop.lay_out(recipe).candidates[0].validated
    assert validated is not None
    spec = validated.call.spec
    assert isinstance(spec, ValidateSpec)
    return spec


def _by_pytorch(train: LaidStep, recipe: Recipe, batch: Arrays) -> Array:
    folder = train.folder("weights")
    model = load_module(recipe.model, train.workshop.allowed, folder)
    with torch.inference_mode():
        found: Array = call_model(model, tensors(batch)).numpy()
    return found
