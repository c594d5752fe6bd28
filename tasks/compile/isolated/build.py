"""Compiling in a target's isolated environment: program and result are passed as files."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

from ....ray_workers.runtime_process import isolated_environment
from ....ray_workers.workspace import Result, Workspace
from ....recipe.errors import StepCrashed, StepFailed
from ....recipe.library_messages import telling
from ....recipe.targets import target_class
from ....runtimes.compiled_artifact import CompiledArtifact
from ...specs.compile import CompileSpec
from ..program import Program, save_for_environment


def build_in_environment(work: Workspace[CompileSpec], kind: str, can: dict[str, str]) -> Result:
    """Compile a module in its target's environment, with the target's builder.

    The builder is `KIND_build.py` beside this file, with a `main(job)`; it is run with `python -m`.
    It writes `built.json`: `batch_sizes`, the compiled sizes or None for one program for any size,
    and `params` for MLflow.

    Args:
        work: Spec: target, model, passes, batch_sizes. Inputs: `module`, `calibration`. Output:
            `model`.
        kind: Of the target.
        can: How the target implements each quantization scheme that it supports.

    Raises:
        StepFailed: The builder refuses the program; with its message.
        StepCrashed: It died; with the signal.
    """
    program = Program(work)
    program.require_fixed_shapes(kind)
    step = program.quantization(kind, can)
    if step is not None and step.get("engine") == "nncf":
        work.note(f"{kind} quantizes by its own tools, not by nncf")
    scratch, folder = work.scratch / "build", work.output("model", kind)
    scratch.mkdir()
    save_for_environment(program, step, scratch)
    job = {
        "program": str(scratch),
        "target": str(folder),
        "names": list(program.inputs),
        "batch_sizes": sorted({1, *(work.spec.batch_sizes or ())}),
        "quantize": step,
    }
    (scratch / "job.json").write_text(json.dumps(job))
    environment = target_class(kind).environment
    assert environment is not None  # noqa: S101 (narrows a type)
    home = isolated_environment(environment, work.note)
    done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
        [str(home.python), "-P", "-m", f"{__package__}.{kind}_build", str(scratch / "job.json")],
        env=home.variables(), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, cwd=scratch,
    )  # fmt: skip
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise StepCrashed(f"the builder of {kind} was killed by {name}", where=kind)
    if done.returncode:
        raise StepFailed(f"{kind} can't compile the model: {why(done.stderr)}", where=kind)
    found: dict[str, Any] = json.loads((scratch / "built.json").read_text(encoding="utf-8"))
    sizes = found["batch_sizes"]
    artifact = CompiledArtifact(
        runtime=kind,
        inputs=tuple(program.inputs),
        batch_sizes=None if sizes is None else tuple(sizes),
        outputs=program.outputs,
    )
    artifact.write(folder)
    return Result(params={"compile/batch_axis": artifact.batch_axis, **found["params"]})


def why(said: str) -> str:
    """Why a builder failed: the operator that its tools lack, else the last error that it wrote."""
    operator = _NO_OPERATOR.search(said)
    if operator:
        name = next(group for group in operator.groups() if group)
        return f"it has no operator '{name.removesuffix('.default')}'"
    errors = _ERROR.findall(said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return telling(errors[-1]) if errors else (lines or ["no reason was given"])[-1]


#: Messages of litert-torch, ExecuTorch and torchax, in this order.
_NO_OPERATOR = re.compile(
    r"Lowering not found: ([\w.]+)|Operator torch\._ops\.([\w.]+) is not in Core ATen|"
    r"AssertionError: (aten\.[\w.]+)"
)
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+", re.MULTILINE)
