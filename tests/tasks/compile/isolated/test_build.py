"""What a builder in an environment of its own said, in one line."""

from __future__ import annotations

import pytest
from prefect_hone.tasks.compile.isolated.build import why

TRACE = (
    "Traceback (most recent call last):\n"
    '  File "/x/export.py", line 52, in call_function\n'
    "    raise RuntimeError(f'Lowering not found: {target}')\n"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            f"{TRACE}RuntimeError: Lowering not found: aten.special_airy_ai.default\n"
            "While executing %x\nUse tlparse to see full graph.\n",
            "it has no operator 'aten.special_airy_ai'",
        ),
        (
            f"{TRACE}torch._export.verifier.SpecViolationError: \n"
            "Operator torch._ops.aten.special_airy_ai.default is not in Core ATen opset (https).\n"
            "   If you believe this operator should be included, please create an issue.\n",
            "it has no operator 'aten.special_airy_ai'",
        ),
        (
            f"{TRACE}AssertionError: aten.special_airy_ai.default\n----\n"
            "For simplicity, JAX has removed its internal frames.\n",
            "it has no operator 'aten.special_airy_ai'",
        ),
        (f"{TRACE}ValueError: a weight is empty\nSee the logs.\n", "a weight is empty"),
        ("out of disk\n", "out of disk"),
        ("", "no reason was given"),
    ],
)
def test_the_line_that_matters_is_found(said: str, expected: str) -> None:
    assert why(said) == expected
