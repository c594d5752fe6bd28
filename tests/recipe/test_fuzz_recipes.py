"""Any text is a recipe or is refused with a sentence, at once; any path is allowed or refused."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzzed
from hypothesis import example, given
from hypothesis import strategies as st
from prefect_hone.recipe.access_policy import AccessPolicy, Origin
from prefect_hone.recipe.errors import HoneError, RecipeError
from prefect_hone.recipe.load import apply_overrides, bundled_recipes, load_recipe, parse_recipe
from prefect_hone.recipe.schema import Recipe
from prefect_hone.recipe.text import Source, read_source, read_text

_YAML = bundled_recipes()["charlm"].read_text()
_TOML = """\
name = "small"
targets = ["onnxruntime-cpu"]
model = {factory = "mymodels:net", args = {width = 32}}
data.factory = "mydata:digits"

[train]
epochs = 2
batch_size = 16

[registry]
model = "small"
"""
_SIGNS = st.sampled_from(
    [*"[]{}:,-?&*!|>#%@`\"'\n\t .=<~0_", "<<: ", "&a ", "*a", "!!", "!!int ", "- ", ": ", "\\x00",
     "\\ud800", "1e999", "9" * 30, "²", "---\n", "...\n", "%YAML 1.1\n", "\u2028", "\ufeff", "[["]
)  # fmt: skip
_WORDS = st.text(max_size=12) | _SIGNS
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | _SIGNS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """A text after a few cuts, copies and insertions."""
    for _ in range(draw(st.integers(1, 6))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        end = min(end, start + 40)
        kind = draw(st.sampled_from(("cut", "copy", "insert", "repeat")))
        piece = text[start:end]
        match kind:
            case "cut":
                text = text[:start] + text[end:]
            case "copy":
                place = draw(st.integers(0, len(text)))
                text = text[:place] + piece + text[place:]
            case "insert":
                text = text[:start] + draw(_WORDS) + text[start:]
            case _:
                text = text[:start] + (piece or "[") * draw(st.integers(2, 400)) + text[end:]
    return text


def judged(load: Callable[[], Recipe]) -> None:
    """Nothing but a recipe or a sentence comes out, soon."""
    start, said = time.process_time(), ""
    try:
        recipe = load()
    except RecipeError as error:
        said = str(error)
    else:
        assert Recipe.model_validate_json(recipe.model_dump_json()).digest() == recipe.digest()
    assert len(said) < 20_000
    assert time.process_time() - start < 5


@fuzzed
@given(st.text() | st.lists(_WORDS, max_size=60).map("".join) | changed(_YAML))
def test_any_text(text: str) -> None:
    judged(lambda: parse_recipe(read_text(text, "recipe")))


@fuzzed
@given(st.binary(max_size=200) | changed(_TOML).map(lambda text: text.encode(errors="replace")))
def test_any_toml_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    judged(lambda: load_recipe(path))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, below in inner:
            found += _places(below, (*path, key)) if isinstance(below, dict | list) else [
                (*path, key)
            ]  # fmt: skip
    return found


_VALUES = read_source(bundled_recipes()["charlm"]).values


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(_places(_VALUES)), _PLAIN), min_size=1, max_size=3))
def test_any_value_in_any_field(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    values = json.loads(json.dumps(_VALUES))
    for path, value in changes:
        place: Any = values
        with contextlib.suppress(LookupError, TypeError):  # another change was there before
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
    judged(lambda: parse_recipe(Source("recipe", values)))


@fuzzed
@given(
    st.lists(
        st.text(max_size=40)
        | st.tuples(
            st.sampled_from(_places(_VALUES)).map(lambda path: ".".join(map(str, path))),
            st.lists(_WORDS, max_size=8).map("".join) | changed("{kind: prune, ratio: 0.5}"),
        ).map("=".join),
        min_size=1,
        max_size=3,
    )
)
@example(["variants.²=1"])
def test_any_options(options: list[str]) -> None:
    source = Source("recipe", _VALUES)
    judged(lambda: parse_recipe(apply_overrides(source, options)))


@fuzzed
@given(
    st.lists(
        st.sampled_from(
            ["/", "..", ".", "~", "root", "models", "etc", "file://", "s3://bucket", "::", "%2e",
             "zip://", "\\", "@", "link", "https://models.team", "FILE:", "\0", ":"]
        ) | st.text(max_size=3),
        max_size=8,
    ).map("".join)
)  # fmt: skip
def test_any_path(tmp_path_factory: pytest.TempPathFactory, given_path: str) -> None:
    root = tmp_path_factory.getbasetemp() / "models"
    root.mkdir(exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("/etc")
    access = AccessPolicy(origin=Origin.PARAMETER, paths=(str(root), "s3://bucket/models"))
    with contextlib.suppress(HoneError):
        _is_inside(access, access.place(given_path, "model.weights", root), root)


def _is_inside(access: AccessPolicy, place: str, root: Path) -> None:
    if "://" in place:
        assert place.lower().startswith("s3://bucket/models")
        assert ".." not in place.split("/")
    else:
        assert Path(place).resolve().is_relative_to(root)
        assert access.file(Path(place), "model.weights").is_relative_to(root)
