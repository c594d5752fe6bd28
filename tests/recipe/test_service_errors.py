"""What Prefect's and MLflow's clients raise is one sentence, not a traceback with their answers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import typer
from prefect_hone import load_recipe
from prefect_hone.flows.cli.commands.common import exit_with_message
from prefect_hone.recipe.errors import AccessRefused, HoneError, InputError, ServerUnreachable
from prefect_hone.recipe.service_errors import service_error

REQUEST = httpx.Request("POST", "http://me:secret@localhost:4200/api/flow_runs/")
LARGE = {
    "exception_message": "Invalid request received.",
    "exception_detail": [
        {"type": "value_error", "loc": ["body", "parameters"], "input": {"recipe": "x" * 700_000},
         "msg": "Value error, Flow run parameters are too large"},
    ],
}  # fmt: skip


def answered(status: int, said: object) -> Exception:
    from prefect.exceptions import PrefectHTTPStatusError

    response = httpx.Response(status, json=said, request=REQUEST)
    error = httpx.HTTPStatusError(f"Client error '{status}'", request=REQUEST, response=response)
    made: Exception = PrefectHTTPStatusError.from_httpx_error(error)
    return made


def refused(status: int) -> Exception:
    from mlflow.exceptions import MlflowException

    return MlflowException(
        f"API request to endpoint /api/2.0 failed with error code {status} != 200"
    )


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: answered(422, LARGE), HoneError,
         "PREFECT_API_URL: Prefect refuses what it is asked for (422): Value error, Flow run "
         "parameters are too large"),
        (lambda: answered(401, {"exception_message": "Unauthorized"}), AccessRefused,
         "PREFECT_API_URL: Prefect denies access (401)"),
        (lambda: answered(500, {}), ServerUnreachable, "Prefect could not answer (500)"),
        (lambda: answered(429, {}), ServerUnreachable, "Prefect could not answer (429)"),
        (lambda: answered(409, {"detail": "Flow run exists"}), HoneError, "(409): Flow run exists"),
        (lambda: httpx.ConnectError("All connection attempts failed", request=REQUEST),
         ServerUnreachable, "Prefect does not answer (ConnectError)"),
        (lambda: httpx.ReadTimeout("", request=REQUEST), ServerUnreachable, "does not answer"),
        (lambda: refused(403), AccessRefused, "MLFLOW_TRACKING_URI: MLflow denies access (403)"),
        (lambda: refused(503), ServerUnreachable, "MLflow could not answer (503)"),
    ],
    ids=["too large", "denied", "failed", "busy", "conflict", "gone", "silent", "mlflow denied",
         "mlflow failed"],
)  # fmt: skip
def test_it_is_a_sentence(make, kind: type[HoneError], said: str) -> None:
    error = make()
    found = service_error(error)
    assert type(found) is kind
    text = str(found)
    assert said in text
    assert len(text) < 400
    assert "secret" not in text


def test_what_is_not_a_servers_is_none_of_it() -> None:
    assert service_error(ValueError("x")) is None


def test_a_command_ends_with_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    @exit_with_message
    def command() -> None:
        raise answered(422, LARGE)

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 1
    said = capsys.readouterr().err
    assert said.startswith("hone: PREFECT_API_URL: Prefect refuses")
    assert "Traceback" not in said


def test_a_large_recipe_is_refused_when_it_is_loaded(project: Path) -> None:
    recipe = project / "recipe.yaml"
    pieces = ", ".join(f"k{i}: '{'x' * 15_000}'" for i in range(12))
    with pytest.raises(InputError, match="the options together are longer than 200,000 characters"):
        load_recipe(recipe, [f"data.args={{{pieces}}}", f"model.args={{{pieces}}}"])
    text = recipe.read_text().replace(
        "args: {}", f"args: {{a: &a {{{pieces}}}, b: *a, c: *a, d: *a}}"
    )
    recipe.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(recipe)
    said = str(caught.value)
    assert "data.args.a: it has 720," in said
    assert "write large values into a file that your factory reads" in said
    assert len(said) < 400
