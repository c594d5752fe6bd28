"""The user's own pass, by its import path: `(work, **args) -> Result`."""

from __future__ import annotations

from ...ray_workers.store.file_names import GRAPH, WEIGHTS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import HoneError, InputError
from ...recipe.factories import raised
from ...recipe.passes import ImportedPass
from ..specs.compress import GraphPassSpec, ModulePassSpec


def apply(work: Workspace[ModulePassSpec | GraphPassSpec]) -> Result:
    """Input and output: `module` or `graph`, as the recipe's field `works_on` says.

    Raises:
        InputError: The function can't be found, raised, or did not do what a pass must.
    """
    spec = work.spec.compression
    assert isinstance(spec, ImportedPass)  # noqa: S101 (narrows a type)
    where = f"passes.factory: {spec.factory}"
    function = work.allowed.resolve(spec.factory, "passes.factory")
    try:
        result = function(work, **spec.args)
    except HoneError:
        raise
    except Exception as error:
        raise raised(f"the pass '{spec.name}'", error, where) from error
    if not isinstance(result, Result):
        raise InputError(
            f"the pass '{spec.name}' returned a {type(result).__name__}, expected a "
            "prefect_hone.Result",
            where=where,
        )
    _check_output(work, spec, where)
    return result


def _check_output(
    work: Workspace[ModulePassSpec | GraphPassSpec], spec: ImportedPass, where: str
) -> None:
    """Refuse a pass that wrote nothing that the next step can read."""
    file = GRAPH if spec.works_on == "graph" else WEIGHTS
    folder, _ = work.outputs.get(spec.works_on, (None, ""))
    if folder is None or not (folder / file).is_file():
        raise InputError(
            f"the pass '{spec.name}' wrote no {file} into its output '{spec.works_on}'",
            where=where,
            do="write it with write_graph(graph, work.output('graph', 'onnx'))"
            if spec.works_on == "graph"
            else "write it with PassContext.keep(model, operations)",
        )
