"""Python sources as syntax trees, also while another thread reads one."""

from __future__ import annotations

import ast
import time
from typing import Literal, overload

#: CPython up to 3.12 keeps the depth of a conversion in one place for all threads (and for what the
#: garbage collector calls meanwhile): https://github.com/python/cpython/issues/106905. Whoever
#: formats a traceback at the same moment makes a sound source fail.
_NOT_THE_SOURCES_FAULT = "recursion depth mismatch"
_TRIES = 40
_PAUSE = 0.0005  # s after the first try, and so much more after each: others come to an end


@overload
def syntax_tree(source: str | bytes, mode: Literal["exec"] = "exec") -> ast.Module: ...
@overload
def syntax_tree(source: str | bytes, mode: Literal["eval"]) -> ast.Expression: ...
def syntax_tree(source: str | bytes, mode: str = "exec") -> ast.AST:
    """`ast.parse` that tries again where it fails for another's work.

    Raises:
        SyntaxError: It is no Python.
        ValueError: It has null bytes, or it is no text.
        RecursionError: It is nested too deeply.
        MemoryError: Likewise.
    """
    for number in range(1, _TRIES):
        try:
            return ast.parse(source, mode=mode)
        except SystemError as error:
            if _NOT_THE_SOURCES_FAULT not in str(error):
                raise
            time.sleep(_PAUSE * number)
    return ast.parse(source, mode=mode)
