"""What a flow's parameters ask for: the recipe by name, file or text, and what each may reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from prefect_hone.flows.engine.deployed_recipe import keep_recipe, open_kept
from prefect_hone.flows.engine.pinned_model import pinned
from prefect_hone.flows.engine.request import as_text, open_request
from prefect_hone.flows.engine.session import new_session, use
from prefect_hone.recipe.access_policy import Origin
from prefect_hone.recipe.errors import InputError, RecipeError, StoreError
from prefect_hone.recipe.load import bundled_recipes, load_recipe


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    for name in ("HONE_ALLOWED_PREFIXES", "HONE_ALLOWED_PATHS", "HONE_STORE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_a_bundled_recipe_by_name_with_overrides() -> None:
    recipe, session = open_request("digits", ["train.epochs=3", " "], redo=["train"])
    assert (recipe.name, recipe.train.epochs) == ("digits", 3)
    assert session.access.origin is Origin.PARAMETER
    assert (session.place, session.code, session.redo) == (None, None, ("train",))


def test_a_recipe_as_text_is_the_same_recipe() -> None:
    given = load_recipe("digits")
    by_yaml = bundled_recipes()["digits"].read_text()
    for text in (as_text(given), as_text(json.loads(as_text(given))), by_yaml):
        assert open_request(text)[0].digest() == given.digest()


def test_mistakes_are_told_in_the_words_of_the_command_line() -> None:
    with pytest.raises(RecipeError, match="did you mean 'digits'") as caught:
        open_request("digit")
    with pytest.raises(RecipeError) as by_parameter:
        open_request("digits", ["train.epoch=3"])
    with pytest.raises(RecipeError) as by_command:
        load_recipe("digits", ["train.epoch=3"])
    assert str(by_parameter.value) == str(by_command.value)
    with pytest.raises(RecipeError, match="give a recipe"):
        open_request("  ")
    with pytest.raises(RecipeError, match="not valid YAML"):
        open_request('{"name": ')
    assert caught.value.exit_code == 2


def test_a_file_only_of_an_allowed_folder_and_its_code_with_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(project / "recipe.yaml")
    with pytest.raises(InputError, match="may not read this path"):
        open_request(path)
    monkeypatch.setenv("HONE_ALLOWED_PATHS", str(project))
    recipe, session = open_request(path)
    assert recipe.name == "wine"
    assert session.code == project.resolve()
    assert session.place == project.resolve()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(project, elsewhere)
    with pytest.raises(InputError, match="may not read this path"):
        open_request(path, [f"code={elsewhere}"])
    (project / "out").symlink_to(elsewhere)
    with pytest.raises(InputError, match="may not read this path"):
        open_request(path, ["code=out"])
    with pytest.raises(InputError, match="there is no such folder"):
        open_request(path, ["code=missing"])


def test_what_is_no_step_is_refused_when_the_run_is_planned() -> None:
    from prefect_hone.flows.engine.plan import make_plan

    recipe, session = open_request("digits", redo=["compil"])
    with pytest.raises(InputError, match="did you mean 'compile'"):
        make_plan(recipe, session)
    recipe, session = open_request("digits", redo=["compile:int8@openvino"])
    with pytest.raises(InputError, match="did you mean 'int8@openvino-cpu'"):
        make_plan(recipe, session)


def test_a_commands_session_is_not_made_again() -> None:
    mine = new_session(load_recipe("digits", ["train.epochs=5"]), origin=Origin.COMMAND_LINE)
    with use(mine):
        recipe, session = open_request("what the parameters show")
    assert session is mine
    assert recipe.train.epochs == 5


def test_a_deployed_recipe_brings_its_code_and_its_models_files(
    project: Path, tmp_path: Path
) -> None:
    from prefect_hone.flows.cli.load import load_for_command

    weights = project / "start.safetensors"
    weights.write_bytes(_weights())
    options = ["model.weights=start.safetensors", "train.epochs=7"]
    recipe, session = load_for_command(str(project / "recipe.yaml"), options)
    name = keep_recipe(recipe, session)
    shutil.rmtree(project)

    got, worker = open_request(name, ["train.epochs=3"])
    assert (got.train.epochs, recipe.train.epochs) == (3, 7)
    assert worker.code is not None
    assert (worker.code / "wine_model.py").is_file()
    assert pinned(got, worker).model.weights == session.kept["start.safetensors"]
    again, _ = open_request(name)
    assert again.model_copy(update={"code": recipe.code}).digest() == recipe.digest()

    with pytest.raises(InputError, match="may not read this path"):
        open_request(name, [f"code={tmp_path}"])


@pytest.mark.parametrize("name", ["store:", "store:../x", f"store:{'0' * 64}", "store:ABC"])
def test_what_was_not_deployed_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no such deployed recipe"):
        open_request(name)


def test_a_deployed_recipe_whose_bytes_changed_is_refused(project: Path) -> None:
    from prefect_hone.flows.cli.load import load_for_command

    name = keep_recipe(*load_for_command(str(project / "recipe.yaml"), []))
    file, _ = open_kept(name, new_session(load_recipe("digits")).store)
    file.chmod(0o644)
    file.write_text(file.read_text().replace("wine_model", "evil_model"))
    with pytest.raises(StoreError):
        open_request(name)


def _weights() -> bytes:
    import numpy
    from safetensors.numpy import save

    return save({"x": numpy.zeros(1, numpy.float32)})


def test_a_link_in_an_allowed_folder_leads_to_no_other_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, secret = tmp_path / "recipes", tmp_path / "secret.yaml"
    secret.write_text("password: hunter2\n")
    (allowed / "folder").mkdir(parents=True)
    (allowed / "linked.yaml").symlink_to(secret)
    (allowed / "folder" / "recipe.yaml").symlink_to(secret)
    monkeypatch.setenv("HONE_ALLOWED_PATHS", str(allowed))
    for name in ("linked.yaml", "folder"):
        with pytest.raises(InputError, match="may not read") as caught:
            open_request(str(allowed / name))
        assert "password" not in str(caught.value)
