"""Texts that are no recipes: each is refused at once, with a sentence."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect_hone import RecipeError
from prefect_hone.recipe.load import apply_overrides, find_recipe, load_recipe, parse_recipe
from prefect_hone.recipe.schema import Recipe
from prefect_hone.recipe.text import read_source, read_text
from pydantic import ValidationError

GOOD = """\
name: small
model: {factory: "mymodels:net", args: {width: 32}}
data: {factory: "mydata:digits"}
train: {epochs: 2, batch_size: 16}
targets: [onnxruntime-cpu]
registry: {model: small}
"""
_SECONDS = 3.0  # a slow machine's, with the tests beside it


def refused(load: Callable[[], Any]) -> str:
    """What is said, which must be short and quick."""
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load()
    assert time.process_time() - start < _SECONDS
    said = str(caught.value)
    assert "Traceback" not in said
    assert len(said) < 15_000
    return said


def _laughs(merge: bool) -> str:
    each = ["a0: &a0 {x: 1, y: 2}"]
    for i in range(1, 25):
        times = ", ".join([f"*a{i - 1}"] * 9)
        each.append(f"a{i}: &a{i} {{<<: [{times}]}}" if merge else f"a{i}: &a{i} [{times}]")
    return "\n".join(each)


YAML = {
    "alias bomb": (_laughs(False), "more than 10,000 values"),
    "merge bomb": (_laughs(True), "more than 10,000 values"),
    "an alias to itself": ("name: &a [*a]", "contains itself"),
    "a merge of itself": ("a: &a {<<: *a}", "contains itself"),
    "brackets": ("name: " + "[" * 3_000, "nested more than 50"),
    "closed brackets": ("name: " + "[" * 3_000 + "]" * 3_000, "nested more than 50"),
    "braces": ("{a: " * 3_000, "nested more than 50"),
    "indentation": ("\n".join(" " * i + "a:" for i in range(300)), "nested more than 50"),
    "an integer of 5,000 digits": ("name: " + "9" * 5_000, "has 5,000 digits"),
    "epochs of 400 digits": (GOOD.replace("epochs: 2", "epochs: " + "9" * 400), "400 digits"),
    "epochs of 40 digits": (GOOD.replace("epochs: 2", "epochs: " + "9" * 40), "too large"),
    "a number that is almost one": ("name: " + "1" * 9_000 + "x", "at most 100"),
    "a character that is none": ("name: a\0b", "U+0000 can't be in it"),
    "the same, escaped": (GOOD.replace("small", r'"sm\0all"', 1), "U+0000"),
    "half a character": (GOOD.replace("small", r'"\ud800"', 1), "U+D800"),
    "a character beyond all": (r'name: "\UFFFFFFFF"', "not valid YAML"),
    "a version of 5,000 digits": ("%YAML " + "9" * 5_000 + ".1\n---\na: 1", "not valid YAML"),
    "20,000 keys": ("\n".join(f"k{i}: 1" for i in range(20_000)), "more than 10,000 values"),
    "4,000 keys": ("\n".join(f"k{i}: 1" for i in range(4_000)), "and 3,"),
    "many long keys": ("\n".join(f"{'k' * 900}{i}: 1" for i in range(200)), "no such field"),
    "a tag that runs code": ("name: !!python/object/apply:os.system [id]", "is not supported"),
    "a tag of a date": ("name: !!timestamp x", "is not supported"),
    "a false number": ("name: !!int abc", "not valid YAML"),
    "a false bool": ("name: !!bool maybe", "not valid YAML"),
    "a key that is a list": ("? [a]\n: 1", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "a list": ("- 1", "must be a mapping"),
    "nothing": ("", "it is empty"),
    "a million characters": ("name: " + "a" * 1_000_000, "longer than 200,000"),
    "a text in a name": ("name: " + "a" * 100_000, "longer than 20,000"),
    "nested targets": (
        GOOD.replace(
            "onnxruntime-cpu",
            "{kind: openvino-cpu, precision: [" + "fp32, " * 400 + "], batch: [" + "any, " * 400
            + "]}",
        ),
        "more than 100 combinations",
    ),
    "a long name": (GOOD.replace("small", "s" * 300, 1), "at most 100"),
    "a long model": (GOOD.replace("{model: small}", "{model: " + "s" * 300 + "}"), "at most 200"),
    "a quote in a model": (GOOD.replace("{model: small}", "{model: \"o'b\"}"), "is not a name"),
    "a question in a model": (GOOD.replace("{model: small}", "{model: 'a?b'}"), "is not a name"),
    "a line in a model": (GOOD.replace("{model: small}", '{model: "a\\n"}'), "is not a name"),
    "a line after a metric": (GOOD + 'quality: {metric: "a:b\\n", higher_is_better: true}',
                              "looks like 'module:name'"),
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_yaml(tmp_path: Path, name: str) -> None:
    text, said = YAML[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert said in refused(lambda: load_recipe(path))
    refused(lambda: parse_recipe(read_text(text, "recipe")))


TOML = {
    "brackets": "name = " + "[" * 3_000,
    "closed brackets": "name = " + "[" * 3_000 + "]" * 3_000,
    "a key of 10,000 parts": ".".join(["a"] * 10_000) + " = 1",
    "a table of 10,000 parts": "[" + ".".join(["a"] * 10_000) + "]",
    "parts in quotes": ".".join(['"a"'] * 10_000) + " = 1",
    "inner parts": "a = {" + ".".join(["a"] * 10_000) + " = 1}",
    "an integer of 5,000 digits": "name = " + "9" * 5_000,
    "an integer of 400 digits": "name = " + "9" * 400,
    "20,000 keys": "\n".join(f"k{i} = 1" for i in range(20_000)),
    "spaces in a header": "[" + " " * 100_000,
    "a character that is none": "name = 'a\0b'",
    "the same, escaped": 'name = "a\\u0000b"',
    "a date": "name = 2026-11-25",
    "a million characters": "name = '" + "a" * 1_000_000 + "'",
}


@pytest.mark.parametrize("name", TOML)
def test_toml(tmp_path: Path, name: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(TOML[name])
    refused(lambda: load_recipe(path))


OPTIONS = {
    "variants.².name=a": "there is no item '²'",
    "variants.٣.name=a": "there is no item",
    "variants." + "9" * 5_000 + ".name=a": "there is no item",
    "train.epochs=" + "9" * 5_000: "5,000 digits",
    "train.epochs=" + "9" * 400: "400 digits",
    "train.epochs=" + "9" * 30: "too large",
    "train.epochs=" + "[" * 3_000: "nested more than 50",
    "train.epochs=&a [*a]": "contains itself",
    "train.epochs=!!python/name:os.system": "is not supported",
    ".".join(["a"] * 3_000) + "=1": "more than 50 parts",
    "name=" + "a" * 300_000: "longer than 200,000",
    "a" * 100_000 + "=1": "longer than 20,000",
    "=": "expected FIELD=VALUE",
    "..=1": "",
    "train.epochs.x=1": "is a value",
    'model.weights="a\\0b"': "U+0000",
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option[:30])
def test_set(tmp_path: Path, option: str) -> None:
    (tmp_path / "recipe.yaml").write_text(GOOD + "variants: [{name: a}, {name: b}]\n")
    assert OPTIONS[option] in refused(lambda: load_recipe(tmp_path / "recipe.yaml", [option]))
    source = read_source(tmp_path / "recipe.yaml")
    deep = [f"model.args.{'.'.join('a' * 40)}={'[' * 40}{']' * 40}"]
    assert "nested more than" in refused(lambda: parse_recipe(apply_overrides(source, deep)))


@pytest.mark.parametrize("name", ["pipe.yaml", "zero.yaml", "null.toml", "folder.yaml"])
def test_a_recipe_is_a_regular_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    match name:
        case "pipe.yaml":
            os.mkfifo(path)
        case "folder.yaml":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero" if name == "zero.yaml" else "/dev/null")
    assert "not a regular file" in refused(lambda: load_recipe(path))


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
def test_other_files_are_not_opened(name: str) -> None:
    assert "a recipe is a .yaml" in refused(lambda: load_recipe(name))


def test_names_of_recipes_that_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("a" * 5_000, "a/" * 5_000, "a\0b", str(tmp_path / "loop.yaml"), ""):
        refused(lambda name=name: read_source(find_recipe(name)))


def test_a_recipe_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(GOOD.encode("utf-16"))
    assert "it is not UTF-8 text" in refused(lambda: load_recipe(path))


def test_a_link_to_a_recipe_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(GOOD)
    (tmp_path / "recipe.yaml").symlink_to("real.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").name == "small"
    assert load_recipe(tmp_path).name == "small"


def test_what_is_no_text_has_the_same_limits() -> None:
    values = read_text(GOOD, "recipe").values
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    for args in ({"x": 10**400}, {"x": deep}, {"x": "a\0b"}, {"x": [0] * 20_000}):
        with pytest.raises(ValidationError, match=r"too large|levels deep|U\+0000|more than"):
            Recipe.model_validate({**values, "model": {"factory": "a:b", "args": args}})


def test_anchors_and_merges_of_a_recipe_still_work() -> None:
    text = GOOD + (
        "variants:\n"
        "  - &base {name: a, passes: [{kind: fold}]}\n"
        "  - {<<: *base, name: b}\n"
    )  # fmt: skip
    recipe = parse_recipe(read_text(text, "recipe"))
    assert [variant.name for variant in recipe.variants] == ["a", "b"]
    assert recipe.variants[0].passes == recipe.variants[1].passes
    assert parse_recipe(read_text(GOOD.replace("2", "!!int 2"), "recipe")).train.epochs == 2
