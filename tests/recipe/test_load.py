"""A recipe loads, or says every mistake with its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone import Recipe, RecipeError, load_recipe
from prefect_hone.recipe.load import apply_overrides, bundled_recipes, parse_recipe
from prefect_hone.recipe.model import ModelFactory
from prefect_hone.recipe.text import read_source

GOOD = """\
name: small
model: {factory: "mymodels:net", args: {width: 32}}
data: {factory: "mydata:digits"}
train:
  epochs: 2
  batch_size: 16
  optimizer: {name: adamw, lr: 1e-3}
targets: [onnxruntime-cpu]
registry: {model: small}
"""

TOML = """\
name = "small"
targets = ["onnxruntime-cpu"]

[model]
factory = "mymodels:net"
args = {width = 32}

[data]
factory = "mydata:digits"

[train]
epochs = 2
batch_size = 16

[train.optimizer]
name = "adamw"
lr = 0.001

[registry]
model = "small"
"""


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str, name: str = "recipe.yaml") -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text, name))
    return str(caught.value)


def test_yaml_and_toml_give_the_same_recipe(tmp_path: Path) -> None:
    first = load_recipe(write(tmp_path, GOOD))
    second = load_recipe(write(tmp_path, TOML, "recipe.toml"))
    assert first == second
    assert first.digest() == second.digest()
    assert first.train.optimizer.lr == 0.001


def test_digest_does_not_depend_on_order_or_process(tmp_path: Path) -> None:
    turned = "\n".join(reversed(GOOD.split("train:")[0].strip().split("\n")))
    turned += "\ntrain:" + GOOD.split("train:")[1]
    here = load_recipe(write(tmp_path, GOOD)).digest()
    assert load_recipe(write(tmp_path, turned, "turned.yaml")).digest() == here
    code = f"from prefect_hone import load_recipe; print(load_recipe({str(tmp_path / 'recipe.yaml')!r}).digest())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )  # fmt: skip
    assert other.stdout.strip() == here


def test_digest_changes_with_every_field(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    changed = load_recipe(tmp_path / "recipe.yaml", ["train.epochs=3"])
    assert recipe.digest() != changed.digest()
    assert hash(recipe) != hash(changed)


def test_a_recipe_is_frozen(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]


def test_every_bundled_example_loads() -> None:
    assert bundled_recipes()
    for name in bundled_recipes():
        assert isinstance(load_recipe(name), Recipe)


def test_the_variants_of_the_design_load(tmp_path: Path) -> None:
    text = GOOD.replace(
        "targets:",
        "variants:\n"
        "  - {name: fp32, passes: []}\n"
        "  - {name: slim, passes: [{kind: prune, method: channel, ratio: 0.5}]}\n"
        "targets:",
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    slim = load_recipe(path).variants[1].passes[0]
    assert (slim.kind, slim.method, slim.ratio) == ("prune", "channel", 0.5)


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ("name: small", "name: small\nepoch: 3", ":2: epoch", "there is no such field"),
        ("epochs: 2", "epochs: 2\n  sched: {name: cosine}", ":6: train.sched", "'schedule'"),
        ("epochs: 2", 'epochs: "2"', ":5: train.epochs", 'got "2"'),
        ("epochs: 2", "epochs: true", ":5: train.epochs", "got true"),
        ("epochs: 2", "epochs: -1", ":5: train.epochs", "greater than or equal to 0"),
        ("adamw", "adamww", ":7: train.optimizer", "did you mean 'adamw'?"),
        ("onnxruntime-cpu", "onxruntime-cpu", ":8: targets.0", "did you mean 'onnxruntime-cpu'?"),
        ("mymodels:net", "mymodels.net", ":2: model.factory", "'module:function'"),
        ("epochs: 2", "epochs: 2\n  loss: cross_entropi", ":4: train", "'cross_entropy'"),
        (
            "epochs: 2",
            "epochs: 2\n  loss: binary_cross_entropy",
            ":4: train",
            "did you mean 'cross_entropy'? known: bce_with_logits, cross_entropy, huber",
        ),
        ("epochs: 2", "epochs: 2\n  mesh: {data: 0}", ":6: train.mesh.data", "greater than"),
        (
            "epochs: 2",
            "epochs: 2\n  mesh: {tensor: 0}",
            ":6: train.mesh",
            "greater than or equal to 1",
        ),
        ("epochs: 2", "epochs: 2\n  precision: fp16", ":4: train", "needs a GPU"),
        ("batch_size: 16", "batch_size: 1\n  mesh: {data: 2}", ":4: train", "can't be split"),
        ("registry:", "quality: {metric: acuracy}\nregistry:", ":9: quality.metric", "'accuracy'"),
        (
            "registry:",
            "gates: [{metric: latency.p50, at_most: 3}]\nregistry:",
            ":9: gates.0.metric",
            "did you mean 'latency.p50_ms'?",
        ),
        ("registry:", "gates: [{metric: size.bytes}]\nregistry:", ":9: gates.0", "at_most or at_l"),
        (
            "registry:",
            "gates: [{metric: latency.p50_ms, at_most: 1, batch_size: 8}]\nregistry:",
            ":1: recipe",
            "gates.0 asks for batch size 8",
        ),
        (
            "registry:",
            "variants: [{name: a, passes: [{kind: quantise}]}]\nregistry:",
            ":9: variants.0.passes.0",
            "did you mean 'quantize'?",
        ),
        (
            "registry:",
            "variants: [{name: a}, {name: a}]\nregistry:",
            ":9: variants",
            "variant 'a' is defined twice",
        ),
        ("model: small", "model: small, alias: previous", ":9: registry.alias", "is reserved"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, place: str, said: str) -> None:
    text = mistakes(tmp_path, GOOD.replace(old, new))
    assert place in text
    assert said in text
    assert text.count("\n") == 1, f"one mistake, one line\n{text}"


def test_several_mistakes_are_reported_together_in_order(tmp_path: Path) -> None:
    text = GOOD.replace("epochs: 2", "epochs: x").replace("name: small", "nam: small")
    said = mistakes(tmp_path, text)
    assert said.startswith("3 mistakes")
    assert said.index("nam:") < said.index("train.epochs")
    assert "did you mean 'name'?" in said


def test_toml_mistakes_have_lines_too(tmp_path: Path) -> None:
    said = mistakes(tmp_path, TOML.replace("lr = 0.001", "lr = -1"), "recipe.toml")
    assert "recipe.toml:17: train.optimizer.lr" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("- 1\n", "found a list"),
        ("name: [\n", "not valid YAML"),
        ("name: a\nname: b\n", "'name' is given twice (first in line 1)"),
    ],
)
def test_what_is_no_recipe_at_all_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistakes(tmp_path, text)


def test_a_missing_file_names_the_examples() -> None:
    with pytest.raises(RecipeError, match="digits"):
        load_recipe("no-such-file.yaml")


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(
        path,
        ["train.mesh.data=2", "variants=[{name: a}]", "variants.a.name=b", "model.args.width=64"],
    )
    assert recipe.train.mesh.data == 2
    assert recipe.variants[0].name == "b"
    assert recipe.model.args == {"width": 64}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("train.epochs=x", "--set train.epochs=x: train.epochs"),
        ("train.epochs", "expected FIELD=VALUE"),
        ("targets.5=x", "there is no item '5'"),
        ("name.x=1", "has no field 'x'"),
        ("model={}", "give the model's factory, or its source"),
        ("model.source=a.onnx", "either a factory with args, or a source"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, option: str, said: str) -> None:
    source = read_source(write(tmp_path, GOOD))
    with pytest.raises(RecipeError) as caught:
        parse_recipe(apply_overrides(source, [option]))
    assert said in str(caught.value)


def test_every_field_has_a_description() -> None:
    def walk(schema: dict, path: str) -> None:
        for name, field in schema.get("properties", {}).items():
            target = schema.get("$defs", {}).get(str(field.get("$ref")).rpartition("/")[2], {})
            described = "description" in field or "description" in target
            assert described or "$ref" in field, f"{path}.{name}"

    schema = Recipe.model_json_schema()
    walk(schema, "Recipe")
    for name, definition in schema["$defs"].items():
        walk(definition, name)


def test_distill_is_refused_with_context_on_an_elastic_mesh_too(tmp_path: Path) -> None:
    for data in ("2", "{min: 1, max: 2}"):
        text = GOOD.replace(
            "epochs: 2",
            f"epochs: 2\n  mesh: {{data: {data}, tensor: 2, context: 2}}\n"
            '  objective: {kind: distill, factory: "mymodels:teacher"}',
        )
        assert "distill does not support mesh.context yet" in mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("name: adamw, lr: 1e-3", "name: muon, momentum: 2", "train.optimizer.momentum"),
        ("epochs: 2", "epochs: 2\n  objective: {kind: distill, factory: a}", "train.objective.factory"),
        ("[onnxruntime-cpu]", "[{kind: openvino-cpu, streams: 0}]", "targets.0.streams"),
        (
            "registry:",
            "variants: [{name: a, passes: [{kind: quantize, scheme: fp8, samples: 0}]}]\nregistry:",
            "variants.0.passes.0.samples",
        ),
        (
            "registry:",
            "variants: [{name: a, passes: [{kind: prune, method: channel, round_to: 0}]}]\nregistry:",
            "variants.0.passes.0.round_to",
        ),
    ],
)  # fmt: skip
def test_a_place_is_the_recipes_own_whichever_member_of_a_union_it_is_in(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    assert f": {place}: " in mistakes(tmp_path, GOOD.replace(old, new))


def test_every_import_path_is_found(tmp_path: Path) -> None:
    text = GOOD.replace("{name: adamw, lr: 1e-3}", '{name: import, factory: "own:optimizer"}').replace(
        "epochs: 2",
        'epochs: 2\n  loss: "own:loss"\n  objective: {kind: distill, factory: "own:teacher"}\n'
        '  parallel: {tensor: {plan: "own:plan"}, pipeline: {split: "own:parts"}}',
    ) + 'variants: [{name: a, passes: [{kind: distill, factory: "own:student", epochs: 1}]}]\n'  # fmt: skip
    found = {where: path for path, where in load_recipe(write(tmp_path, text)).factories()}
    assert found == {
        "model.factory": "mymodels:net",
        "data.factory": "mydata:digits",
        "train.optimizer.factory": "own:optimizer",
        "train.loss": "own:loss",
        "train.objective.factory": "own:teacher",
        "train.parallel.tensor.plan": "own:plan",
        "train.parallel.pipeline.split": "own:parts",
        "variants.0.passes.0.factory": "own:student",
    }
    plain = load_recipe(write(tmp_path, GOOD)).factories()
    assert [where for _, where in plain] == ["model.factory", "data.factory"]


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        ('{metric: "own:iou"}', "say which way 'own:iou' is better"),
        ('{metric: "own.iou:"}', "an import path looks like 'module:name'"),
        ('{metric: "own:drop", higher_is_better: true}', "quality/drop is a measure of Hone's"),
        ("{metric: mae, higher_is_better: true}", "of 'mae' the lower value is the better one"),
    ],
)
def test_a_metric_of_your_own_says_which_way_is_better(
    tmp_path: Path, quality: str, said: str
) -> None:
    text = GOOD.replace("registry:", f"quality: {quality}\nregistry:")
    assert said in mistakes(tmp_path, text)


def test_gates_name_a_metric_of_your_own_by_its_short_name(tmp_path: Path) -> None:
    text = GOOD.replace(
        "registry:",
        'quality: {metric: "own.measures:iou", higher_is_better: true}\n'
        "gates: [{metric: quality.iou, at_least: 0.5}, {metric: quality.value, at_least: 0.5}]\n"
        "registry:",
    )
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.quality.name, recipe.quality.rises) == ("iou", True)
    assert ("own.measures:iou", "quality.metric") in recipe.factories()
    other = text.replace("quality.iou", "quality.dice")
    assert "'quality.dice', but quality.metric is 'iou'" in mistakes(tmp_path, other)


def test_a_pass_of_your_own_is_a_member_like_the_others(tmp_path: Path) -> None:
    def text(passes: str) -> str:
        return f"{GOOD}variants: [{{name: a, passes: [{passes}]}}]\n"

    graph = '{kind: import, factory: "own.passes:merge", works_on: graph, args: {share: 0.5}}'
    module = '{kind: import, factory: "own.passes:sparse", works_on: module, trains: true}'
    recipe = load_recipe(write(tmp_path, text(f"{module}, {module}, {{kind: fold}}, {graph}")))
    first, *_, last = recipe.variants[0].passes
    assert (first.name, first.works_on, first.trains) == ("sparse", "module", True)
    assert (last.name, last.works_on, last.args) == ("merge", "graph", {"share": 0.5})
    assert ("own.passes:merge", "variants.0.passes.3.factory") in recipe.factories()
    assert "'sparse' works on the torch module and can't follow 'merge'" in mistakes(
        tmp_path, text(f"{graph}, {module}")
    )
    assert "only a pass that works on the module can train" in mistakes(
        tmp_path, text(graph.replace("args: {share: 0.5}", "trains: true"))
    )
    missing = mistakes(tmp_path, text('{kind: import, factory: "own:p"}'))
    assert "variants.0.passes.0.works_on: this field is required" in missing


def test_a_target_of_your_own_is_a_member_like_the_others(tmp_path: Path) -> None:
    own = "{kind: import, factory: own.chip, takes: graph, args: {sizes: [1, 2]}, packages: [a, b]}"
    named = '{kind: import, factory: "own:Chip", takes: module, name: chip-2}'
    text = GOOD.replace("[onnxruntime-cpu]", f"[onnxruntime-cpu, {own}, {named}]")
    first, second = load_recipe(write(tmp_path, text)).targets[1:]
    assert (first.name, first.takes, first.packages) == ("chip", "graph", ("a", "b"))
    assert first.args == {"sizes": [1, 2]}, "a list of theirs is not tried one by one"
    assert (second.name, second.takes) == ("chip-2", "module")
    factories = load_recipe(tmp_path / "recipe.yaml").factories()
    assert {("own.chip", "targets.1.factory"), ("own:Chip", "targets.2.factory")} <= set(factories)
    twice = text.replace(named, '{kind: import, factory: "other:chip", takes: graph}')
    assert "the target 'chip' is defined twice" in mistakes(tmp_path, twice)


def test_a_recipe_that_mlflow_kept_before_the_readers_moved_loads_as_it_is_now() -> None:
    kept = {
        "source": "model.onnx", "factory": "prefect_hone.ray_workers.sources:read", "args": {},
    }  # fmt: skip
    assert ModelFactory.model_validate(kept) == ModelFactory(source="model.onnx")


@pytest.mark.parametrize(
    ("metric", "mesh", "said"),
    [
        ("accuracy", "", "accuracy looks at one output: name a metric of your own"),
        ("own:m", "  mesh: {pipeline: 2}\n", "a pipeline's last stage gives one output"),
    ],
)
def test_a_metric_over_all_outputs_is_ones_own(
    tmp_path: Path, metric: str, mesh: str, said: str
) -> None:
    quality = f'quality: {{metric: "{metric}", outputs: all, higher_is_better: true}}\n'
    text = GOOD.replace("  batch_size: 16\n", f"  batch_size: 16\n{mesh}")
    assert said in mistakes(tmp_path, quality + text)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (["loss_outputs: all"], "cross_entropy compares one output with the target"),
        (['loss: "own:l"', "loss_outputs: all", "mesh: {pipeline: 2}"], "set mesh.pipeline to 1"),
        (['loss: "own:l"', "loss_outputs: some"], "'main' or 'all'"),
    ],
)
def test_a_loss_over_all_outputs_is_ones_own(tmp_path: Path, train: list[str], said: str) -> None:
    lines = "".join(f"\n  {line}" for line in train)
    found = mistakes(tmp_path, GOOD.replace("  batch_size: 16", f"  batch_size: 16{lines}"))
    assert "train" in found
    assert said in found
