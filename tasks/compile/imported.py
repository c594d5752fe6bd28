"""The user's own target, by its import path: `availability`, `compile_graph` and `load`."""

from __future__ import annotations

from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import HoneError, InputError
from ...recipe.factories import Allowed, raised
from ...recipe.targets import ImportedTarget
from ...runtimes.compiled_artifact import SETTINGS, CompiledArtifact
from ...runtimes.imported_runtime import NAME
from ..specs.compile import CompileSpec
from . import Unavailable

_FUNCTIONS = ("availability", "compile_graph", "load")


def availability_of(target: ImportedTarget, allowed: Allowed) -> Unavailable | None:
    """Whether the target is available on this machine.

    Raises:
        InputError: It can't be found, lacks a function, raised, or returned something else.
    """
    found = _functions(target, allowed)
    try:
        said = found.availability(target)
    except Exception as error:
        raise raised("availability", error, _where(target)) from error
    if said is not None and not isinstance(said, Unavailable):
        raise InputError(
            f"availability returned a {type(said).__name__}, expected None or a "
            "prefect_hone.Unavailable",
            where=_where(target),
        )
    return said


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`, or `module` and `calibration`. Output: `model`.

    Raises:
        InputError: The target can't be found, is not available, raised, or did not do what a target
            must.
        StepFailed: The target can't compile the model.
    """
    target = work.spec.target
    assert isinstance(target, ImportedTarget)  # noqa: S101 (narrows a type)
    missing = availability_of(target, work.allowed)
    if missing is not None:
        raise InputError(missing.reason, where=_where(target), do=missing.do)
    try:
        result = _functions(target, work.allowed).compile_graph(work, **target.args)
    except HoneError:
        raise
    except Exception as error:
        raise raised("compile_graph", error, _where(target)) from error
    if not isinstance(result, Result):
        raise InputError(
            f"compile_graph returned a {type(result).__name__}, expected a prefect_hone.Result",
            where=_where(target),
        )
    _sign(work, target)
    return result


def _sign(work: Workspace[CompileSpec], target: ImportedTarget) -> None:
    """Write into the artifact what opens it."""
    folder, _ = work.outputs.get("model", (None, ""))
    if folder is None or not any(folder.iterdir()):
        raise InputError(
            "compile_graph wrote nothing into its output 'model'",
            where=_where(target),
            do="write the artifact's files into work.output('model', kind)",
        )
    if (folder / SETTINGS).exists():
        raise InputError(
            f"compile_graph wrote {SETTINGS}, which is Hone's file in an artifact",
            where=_where(target),
            do="give yours another name",
        )
    settings = {"factory": target.factory, "packages": list(target.packages)}
    CompiledArtifact(NAME, batch_sizes=work.spec.batch_sizes, settings=settings).write(folder)


def _functions(target: ImportedTarget, allowed: Allowed) -> Any:
    found = allowed.find(target.factory, "targets.factory")
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise raised("the target", error, _where(target)) from error
    for name in _FUNCTIONS:
        if not callable(getattr(found, name, None)):
            raise InputError(
                f"the target has no function '{name}'",
                where=_where(target),
                do="give it availability(target), compile_graph(work, **args) and "
                "load(folder, options)",
            )
    return found


def _where(target: ImportedTarget) -> str:
    return f"targets.factory: {target.factory}"
