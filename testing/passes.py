"""Tests of a pass: its spec, what it changes, what it logs, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..ray_workers.data.calling import call_model, tensors
from ..ray_workers.metrics import Array
from ..ray_workers.model.module import load_module
from ..ray_workers.model.onnx_files import load_inputs, read_graph
from ..recipe.errors import HoneError
from ..recipe.model import ModelFactory
from ..recipe.passes import Pass
from ..recipe.schema import Recipe
from ..tasks.keys import closure
from ..tasks.specs.compress import ModulePassSpec
from .workshop import SAMPLES, LaidStep, Workshop


@dataclass(frozen=True)
class PassCase:
    """A pass, and what it may change in a model.

    Attributes:
        asked: The pass as in a recipe.
        largest_error: Largest relative L2 distance of the outputs from those before the pass; a
            pass that changes the architecture may need a large one.
        model: Import path of the factory of the model to try it on.
        refused: The pass in a form that `refused_model` does not support; None: it refuses nothing.
        refused_model: Import path of a factory; None: `model`.
        packages: Modules that it needs besides Hone's; without them the test is skipped.
        fields: Instead of fields of the recipe, such as `data` for a model of yours.
    """

    asked: dict[str, Any]
    largest_error: float
    model: str = f"{SAMPLES}:perceptron"
    refused: dict[str, Any] | None = None
    refused_model: str | None = None
    packages: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class PassTestSuite:
    """Subclass it, and provide the fixture `case`; if your code is not in an installed package,
    also the fixture `workshop`.
    """

    @pytest.fixture
    def case(self) -> PassCase:
        raise NotImplementedError("give the suite a fixture `case` that returns a PassCase")

    @pytest.fixture(scope="class")
    def workshop(self, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
        return Workshop(tmp_path_factory.mktemp("workshop"))

    @pytest.fixture
    def recipe(self, case: PassCase, workshop: Workshop) -> Recipe:
        return _recipe(workshop, case, case.asked, case.model)

    @pytest.fixture
    def step(self, case: PassCase, recipe: Recipe, workshop: Workshop) -> LaidStep:
        missing = [name for name in case.packages if find_spec(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")
        return _compress(workshop, recipe)

    def test_a_recipe_holds_it_and_gives_it_back(self, recipe: Recipe) -> None:
        said = json.loads(recipe.model_dump_json())
        assert Recipe.model_validate(said) == recipe
        assert said["variants"][0]["passes"][0]["kind"] == _asked(recipe).kind
        assert _asked(recipe).name

    def test_every_field_says_what_it_is(self, recipe: Recipe) -> None:
        for name, info in type(_asked(recipe)).model_fields.items():
            assert (info.description or "").strip(), f"{name} has no description"

    def test_its_code_is_in_the_cache_key(self, step: LaidStep, recipe: Recipe) -> None:
        call = step.call
        reached = closure(call.step.module, *call.step.lends, *call.loads)
        assert call.step.module in reached.modules
        if _asked(recipe).kind == "import":
            assert call.step.runs_user_code, "the digest of your code is in the key"

    def test_it_keeps_the_outputs_as_near_as_it_says(
        self, case: PassCase, step: LaidStep, recipe: Recipe
    ) -> None:
        check = step.workshop.lay_out(recipe).check
        before, after = _before_and_after(step, check.folder("calibration"))
        assert after.shape == before.shape
        assert np.isfinite(after).all()
        distance = float(np.linalg.norm(after - before) / np.linalg.norm(before))
        assert distance <= case.largest_error

    def test_it_says_what_it_did(self, step: LaidStep) -> None:
        done = step.done
        assert done.params or done.metrics, "nothing for MLflow"
        json.dumps([done.params, done.metrics, done.facts, done.notes])
        for name, value in done.metrics.items():
            assert math.isfinite(value), name

    def test_the_same_inputs_give_the_same_bytes_and_stay_as_they_are(self, step: LaidStep) -> None:
        outputs = step.done.outputs
        given = [source.folder(output) for source, output in step.inputs.values()]
        before = [_bytes(folder) for folder in given]
        assert step.run().outputs == outputs
        assert [_bytes(folder) for folder in given] == before

    def test_it_says_what_it_can_not_do_and_where(
        self, case: PassCase, recipe: Recipe, workshop: Workshop
    ) -> None:
        if case.refused is None:
            pytest.skip("the case names nothing that it refuses")
        missing = [name for name in case.packages if find_spec(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")
        model = case.refused_model or case.model
        step = _compress(workshop, _recipe(workshop, case, case.refused, model))
        for source, _ in step.inputs.values():
            assert source.done, "what comes before works"
        with pytest.raises(HoneError) as refused:
            step.run()
        assert refused.value.where, "an error says where"
        assert refused.value.what


def _recipe(workshop: Workshop, case: PassCase, asked: dict[str, Any], model: str) -> Recipe:
    variants = [{"name": "asked", "passes": [asked]}]
    return workshop.recipe(model, **{"variants": variants, **case.fields})


def _asked(recipe: Recipe) -> Pass:
    return recipe.variants[0].passes[0]


def _compress(workshop: Workshop, recipe: Recipe) -> LaidStep:
    shared = workshop.lay_out(recipe).candidates[0].shared
    return next(step for step in shared if step.call.step.name == "compress")


def _before_and_after(step: LaidStep, samples: Path) -> tuple[Array, Array]:
    """The main output on some samples, without and with the pass."""
    output = "graph" if "graph" in step.inputs else "module"
    source, name = step.inputs[output]
    inputs = load_inputs(samples, 32)
    run = _of_graph if output == "graph" else _of_module
    return run(step, source.folder(name), inputs), run(step, step.folder(output), inputs)


def _of_module(step: LaidStep, folder: Path, inputs: dict[str, Array]) -> Array:
    model = load_module(_model_of(step), step.workshop.allowed, folder)
    with torch.inference_mode():
        found: Array = call_model(model, tensors(inputs)).numpy()
    return found


def _model_of(step: LaidStep) -> ModelFactory:
    spec = step.call.spec
    assert isinstance(spec, ModulePassSpec)
    return spec.model


def _of_graph(step: LaidStep, folder: Path, inputs: dict[str, Array]) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()  # what it would fuse of fp8 is wrong
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = read_graph(folder).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found: Array = session.run(["output"], inputs)[0]
    return found


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
