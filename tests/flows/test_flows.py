"""Flows as Prefect takes them: sent by value, named by module, with forms that people can fill in."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prefect.utilities.callables import parameter_schema
from prefect_hone.flows.operate.deployments import FLOWS, find_flow
from prefect_hone.recipe.errors import InputError


@pytest.mark.parametrize("name", FLOWS)
def test_it_survives_being_sent_by_value(name: str) -> None:
    """As `flow.serve` sends it: cloudpickled, to a process that imported nothing of it."""
    code = (
        "import cloudpickle, subprocess, sys\n"
        "from prefect_hone.flows.operate.deployments import find_flow\n"
        f"sent = cloudpickle.dumps(find_flow({name!r}))\n"
        "there = 'import cloudpickle, sys; flow = cloudpickle.loads(sys.stdin.buffer.read());"
        'print(sorted(flow.validate_parameters({p: "1" for p in flow.parameters.required})))\'\n'
        "subprocess.run([sys.executable, '-c', there], input=sent, check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str(sorted(find_flow(name).parameters.properties))


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
