"""Errors of torch's exporter, in one sentence: the operator, and the line of the model."""

from __future__ import annotations

import re

from ...recipe.errors import StepFailed
from ...recipe.factories import users_file
from ...recipe.library_messages import clean


def as_export_error(error: BaseException) -> StepFailed:
    """An error with the operator and the line of the model that the exporter can't handle."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    text = "\n".join(str(link) for link in chain)
    operator = re.search(r"(?:OpOverload\(op='|function for[^']*'|torch\.ops\.)([\w:.]+)", text)
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text)
    own = [f for f in frames if "/torch/" not in f[0] and "site-packages" not in f[0]]
    scope = re.findall(r"nn_module_stack[^\n]*|L\['self'\]((?:\.\w+)+)", text)
    reason = _reason(chain)
    what = f"the model can't be exported: {reason}"
    if operator and operator.group(1) not in what:
        what += f" (operator {operator.group(1)})"
    layer = next((found.strip(".") for found in scope if found), None)
    if layer:
        what += f" (layer {layer})"
    where = None
    if own:
        where = f"{users_file(own[-1][0])}:{own[-1][1]} in {own[-1][2]}"
    return StepFailed(
        what,
        where=where,
        do="torch.export must be able to trace the model: no control flow on tensor values, no "
        "operator without an ONNX form",
    )


def _reason(chain: list[BaseException]) -> str:
    for link in reversed(chain):
        lines = [line.strip() for line in str(link).splitlines() if line.strip()]
        if lines:
            return f"{type(link).__name__}: {clean(lines[0])}"
    return type(chain[0]).__name__
