"""What is imported outside the code folder and the installed packages is in the keys, or refused."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.flows.cli.tables import show_outside
from prefect_hone.flows.engine.outside_code import outside_code
from prefect_hone.flows.engine.user_code import identify, pack
from prefect_hone.ray_workers.dispatch import Done, StepJob, execute
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.runtimes.outside_code import guard_imports, installed
from rich.console import Console
from steps_bench import BASE, TRAINED


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder on the import path, as PYTHONPATH, a script's folder and a .pth file put it there."""
    folder = tmp_path / "place"
    folder.mkdir()
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    yield folder
    guard_imports(None, None)
    use_code(tmp_path / "nowhere")
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_helper_beside_the_code_folder_is_in_the_key(place: Path, project: Path) -> None:
    recipe = load_recipe(project / "recipe.yaml")
    with (project / "wine_model.py").open("a") as file:
        file.write("def deep():\n    from hone_helper.part import x\n")
    (place / "hone_helper").mkdir()
    (place / "hone_helper" / "__init__.py").write_text("")
    (place / "hone_helper" / "part.py").write_text("import hone_further")
    (place / "hone_further.py").write_text("VALUE = 1")
    first, outside = identify(recipe, project)
    assert set(outside) == {"hone_helper", "hone_further"}
    (place / "hone_further.py").write_text("VALUE = 2")
    assert identify(recipe, project)[0] != first
    (place / "hone_further.py").write_text("VALUE = 1")
    assert identify(recipe, project) == (first, outside)
    (place / "unrelated.py").write_text("")
    assert identify(recipe, project) == (first, outside)


def test_a_library_in_an_editable_install_is_in_the_key(place: Path) -> None:
    (place / "torch_pruning").mkdir()  # of those that Hone itself imports
    (place / "torch_pruning" / "__init__.py").write_text("")
    (place / "sitecustomize.py").write_text("")
    loaded = {name: sys.modules.pop(name) for name in ("torch_pruning", "sitecustomize")
              if name in sys.modules}  # fmt: skip
    try:
        assert set(outside_code([], [], [])) == {"torch_pruning", "sitecustomize"}
    finally:
        sys.modules.update(loaded)


def test_a_worker_refuses_by_name_what_no_key_has(place: Path, project: Path) -> None:
    (project / "dynamic.py").write_text(
        "import importlib\n\ndef net(name='hone_' + 'unseen'):\n    importlib.import_module(name)\n"
    )
    (place / "hone_unseen.py").write_text("")
    recipe = load_recipe(project / "recipe.yaml", ["model={factory: dynamic:net}"])
    outside = identify(recipe, project)[1]
    assert outside == {}
    use_code(project)
    guard_imports(outside, str(project))
    with pytest.raises(Exception, match="hone_unseen") as caught:
        Allowed.from_environment(project).call("dynamic:net", {}, "model.factory")
    said = str(caught.value)
    assert said.startswith("model.factory: dynamic:net: 'hone_unseen' is imported from ")
    assert "(imported in dynamic.py:4 in net)" in said
    assert "put it in the recipe's `code` folder, install it, or add 'hone_unseen' to" in said
    import wine_data  # type: ignore[import-not-found]

    assert wine_data.__file__.startswith(str(project))


def test_the_step_of_a_worker_is_guarded(place: Path, project: Path, tmp_path: Path) -> None:
    """As a Ray worker runs it: with the packed code folder and what the session allows."""
    (project / "dynamic.py").write_text(
        "import importlib\nfrom wine_model import net as known\n\n"
        "def net(name):\n    importlib.import_module(name)\n    return known()\n"
    )
    for name in ("hone_keyed", "hone_unkeyed"):
        (place / f"{name}.py").write_text("")
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    outside = outside_code([], ["hone_keyed"], [])
    allowed = Allowed.from_environment(project).model_copy(update={"outside": outside})

    def check(name: str) -> Done:
        spec = {**BASE, **TRAINED, "model": {"factory": "dynamic:net", "args": {"name": name}}}
        return execute(StepJob(
            function="prefect_hone.tasks.check:check", key="k", lineage="k", spec=spec, inputs={},
            code=pack(project, store), allowed=allowed, store=store.url, cache=str(store.cache),
        ), lambda _: None)  # fmt: skip

    assert check("hone_keyed").outputs
    with pytest.raises(InputError, match="'hone_unkeyed' is imported from") as caught:
        check("hone_unkeyed")
    assert "/artifacts/" not in str(caught.value)


def test_the_plan_tells_what_comes_from_elsewhere() -> None:
    console = Console(record=True, width=200)
    show_outside(console, ["helper", "mylib"])
    show_outside(console, [])
    assert console.export_text().strip() == (
        "code: imported from elsewhere, and part of the cache keys: helper, mylib"
    )


def test_a_worker_with_other_code_of_that_name_refuses_it(place: Path) -> None:
    (place / "hone_other.py").write_text("VALUE = 1")
    outside = outside_code([], ["hone_other"], [])
    guard_imports(outside, None)
    assert importlib.import_module("hone_other").VALUE == 1
    del sys.modules["hone_other"]
    (place / "hone_other.py").write_text("VALUE = 2")
    guard_imports(outside, None)
    with pytest.raises(ImportError, match="'hone_other' is not the same here"):
        importlib.import_module("hone_other")


def test_installed_packages_and_pythons_own_are_let_in(tmp_path: Path) -> None:
    guard_imports({}, None)
    try:
        for name in (
            "wave",
            "safetensors.torch",
            "prefect_hone.recipe.examples.digits.digits_model",
        ):
            sys.modules.pop(name, None)
            assert importlib.import_module(name)
    finally:
        guard_imports(None, None)
    assert installed(json.__file__)
    assert not installed(str(tmp_path / "x.py"))
