"""Which functions a recipe may name, and what is said of those that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import InputError
from prefect_hone.recipe.factories import OWN_FACTORIES, TORCH_LOSSES, Allowed, use_code


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "own_module.py").write_text(
        "import os\nfrom collections import OrderedDict\n\n"
        "def make(width=1):\n    return width\n\n"
        "def broken():\n    raise ValueError('no weights')\n\n"
        "value = 3\n"
    )
    (tmp_path / "own_broken.py").write_text("import no_such_module\n")
    use_code(tmp_path)
    return tmp_path


def test_the_code_folder_of_a_recipe_that_a_person_runs_is_allowed(code: Path) -> None:
    allowed = Allowed.from_environment(code)
    assert allowed.call("own_module:make", {"width": 5}, "model.factory") == 5


@pytest.mark.parametrize(
    "path",
    ["os:system", "subprocess:run", "builtins:eval", "prefect_hone.flows.cli.run:run_command"],
)
def test_outside_the_allowed_prefixes_nothing_is_imported(path: str) -> None:
    with pytest.raises(InputError, match="outside the allowed prefixes"):
        Allowed().resolve(path, "model.factory")


def test_an_allowed_module_does_not_lend_what_it_imports(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_ALLOWED_PREFIXES", "own_module")
    allowed = Allowed.from_environment()
    assert allowed.call("own_module:make", {}, "model.factory") == 1
    with pytest.raises(InputError, match="is defined in 'collections'"):
        allowed.resolve("own_module:OrderedDict", "model.factory")


def test_a_prefix_is_a_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_ALLOWED_PREFIXES", "own")
    with pytest.raises(InputError, match="outside"):
        Allowed.from_environment().check("own_module:make", "model.factory")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("own_module:mak", "did you mean 'make'?"),
        ("own_module:value", "is not a function"),
        ("own_broken:make", "there is no module 'no_such_module'"),
    ],
)
def test_a_factory_that_can_not_be_found(code: Path, path: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Allowed.from_environment(code).resolve(path, "model.factory")
    assert said in str(caught.value)
    assert "model.factory" in str(caught.value)


def test_what_a_factory_raises_comes_with_its_line(code: Path) -> None:
    with pytest.raises(InputError) as caught:
        Allowed.from_environment(code).call("own_module:broken", {}, "model.factory")
    assert "ValueError: no weights" in str(caught.value)
    assert "own_module.py:8 in broken" in str(caught.value)


def test_another_version_of_the_code_replaces_the_first(code: Path, tmp_path: Path) -> None:
    allowed = Allowed.from_environment(code)
    assert allowed.call("own_module:make", {}, "model.factory") == 1
    other = tmp_path / "second"
    other.mkdir()
    (other / "own_module.py").write_text("def make():\n    return 'second'\n")
    use_code(other)
    assert allowed.call("own_module:make", {}, "model.factory") == "second"


def test_an_object_a_class_or_a_module_can_be_found_where_it_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_parts"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import json\n\nclass Thing:\n    pass\n\nthing = Thing()\n"
    )
    (package / "inner.py").write_text("value = 1\n")
    use_code(tmp_path)
    monkeypatch.setenv("HONE_ALLOWED_PREFIXES", "own_parts")
    allowed = Allowed.from_environment()
    assert allowed.find("own_parts:inner", "a").value == 1
    assert allowed.find("own_parts.inner", "a").value == 1
    assert isinstance(allowed.find("own_parts:thing", "a"), allowed.find("own_parts:Thing", "a"))
    with pytest.raises(InputError, match="'json' is defined in 'json'"):
        allowed.find("own_parts:json", "a")
    with pytest.raises(InputError, match="'inner' is not a function"):
        allowed.resolve("own_parts:inner", "a")


@pytest.mark.parametrize(
    "path",
    [
        "prefect_hone.ray_workers.model.incoming:_local",
        "prefect_hone.ray_workers.model.incoming:check_archive",
        "prefect_hone.ray_workers.model.incoming:fsspec",
        "prefect_hone.ray_workers.model:incoming",
        "prefect_hone.recipe.examples.digits:digits_model",
        "prefect_hone.recipe.examples.charlm.charlm_data:text",
        "prefect_hone.ray_workers.sources:_library",
        "prefect_hone.recipe:factories",
    ],
)
def test_of_hone_itself_only_the_factories_are_lent_by_their_exact_names(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for added in ("", "prefect_hone", "prefect_hone.ray_workers"):
        monkeypatch.setenv("HONE_ALLOWED_PREFIXES", added)
        for find in (Allowed.from_environment().resolve, Allowed.from_environment().find):
            with pytest.raises(InputError, match=r"of Hone itself|private"):
                find(path, "model.factory")


def test_hones_own_factories_are_where_the_list_says() -> None:
    for path in OWN_FACTORIES:
        assert callable(Allowed().resolve(path, "model.factory")), path


@pytest.mark.parametrize("path", ["own_parts:_secret", "own_parts._hidden:make"])
def test_nothing_private_is_lent(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_ALLOWED_PREFIXES", "own_parts")
    with pytest.raises(InputError, match="private"):
        Allowed.from_environment().resolve(path, "model.factory")
    with pytest.raises(InputError, match="private"):
        Allowed(modules=("own_parts",)).resolve("own_parts:_secret", "model.factory")


def test_one_function_of_a_package_can_be_lent_alone(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_ALLOWED_PREFIXES", "own_module:OrderedDict, own_module:make")
    allowed = Allowed.from_environment()
    assert allowed.call("own_module:OrderedDict", {}, "model.factory") == {}
    assert allowed.call("own_module:make", {}, "model.factory") == 1
    with pytest.raises(InputError, match="outside the allowed prefixes"):
        allowed.resolve("own_module:broken", "model.factory")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("os:system", None),
        ("subprocess.run:x", None),
        ("torch:load", "HONE_ALLOWED_PREFIXES=torch:load"),
        ("own.models:net", "HONE_ALLOWED_PREFIXES=own.models:net"),
    ],
)
def test_the_advice_lends_no_whole_package(path: str, advice: str | None) -> None:
    with pytest.raises(InputError) as caught:
        Allowed().check(path, "model.factory")
    said = str(caught.value)
    assert advice is None or said.endswith(advice)
    assert (advice is None) == ("HONE_ALLOWED_PREFIXES" not in said)


@pytest.mark.parametrize("path", TORCH_LOSSES)
def test_a_loss_of_torch_may_be_named_by_any_recipe(path: str) -> None:
    import torch

    allowed = Allowed.from_environment()
    assert allowed.resolve(path, "train.loss") is getattr(torch.nn.functional, path.split(":")[1])
    with pytest.raises(InputError, match="outside the allowed prefixes"):
        allowed.resolve("torch.nn.functional:linear", "train.loss")
