"""Flows as Prefect takes them: sent by value, named by module, with forms that people can fill in."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import cloudpickle
import pytest
from prefect.utilities.callables import parameter_schema
from prefect_hone.flows.operate.deployments import FLOWS, find_flow
from prefect_hone.recipe.errors import InputError

#: Forks a process for each flow, so that Prefect is imported once, and of Hone nothing.
_LOAD_EACH = """
import cloudpickle, json, os, pickle, prefect, sys
for name, sent in pickle.load(sys.stdin.buffer).items():
    assert not [module for module in sys.modules if module.startswith("prefect_hone")]
    if os.fork() == 0:
        flow = cloudpickle.loads(sent)
        values = {parameter: "1" for parameter in flow.parameters.required}
        print(json.dumps([name, sorted(flow.validate_parameters(values))]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def received() -> dict[str, list[str]]:
    """The parameters of each flow, sent as `flow.serve` sends it: cloudpickled, to a process that
    imported nothing of it.
    """
    sent = {name: cloudpickle.dumps(find_flow(name)) for name in FLOWS}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_EACH],
        input=pickle.dumps(sent), capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = dict(map(json.loads, done.stdout.decode().splitlines()))
    assert set(found) == set(FLOWS), done.stderr.decode()[-2000:]
    return found


@pytest.mark.parametrize("name", FLOWS)
def test_it_survives_being_sent_by_value(name: str, received: dict[str, list[str]]) -> None:
    assert received[name] == sorted(find_flow(name).parameters.properties)


@pytest.mark.parametrize("name", FLOWS)
def test_its_form_is_flat_and_says_what_each_field_is(name: str) -> None:
    flow = find_flow(name)
    assert flow.description
    schema = parameter_schema(flow.fn)
    assert schema.definitions == {}, "a nested model makes a form that nobody fills in"
    for field, said in schema.properties.items():
        assert "anyOf" not in said, f"{field}: unions are the form's weak side"
        assert len(said.get("description", "")) > 20, field
        assert said["type"] in ("string", "array", "number", "integer", "boolean"), field
        assert field in (schema.required or []) or "default" in said, field


def test_there_is_no_other_flow() -> None:
    with pytest.raises(InputError, match="did you mean 'accelerate'"):
        find_flow("acelerate")
