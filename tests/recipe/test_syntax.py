"""A source is read although other threads, and the garbage collector, read others meanwhile."""

from __future__ import annotations

import ast
import gc
import threading
import time
from pathlib import Path

import pytest
from prefect_hone.recipe import syntax
from prefect_hone.recipe.syntax import syntax_tree

SOURCE = Path(syntax.__file__).with_name("factories.py").read_bytes()


def deep_in(levels: int, over: threading.Event) -> None:
    """Parse at another depth than the main thread, until it is over."""
    if levels:
        deep_in(levels - 1, over)
        return
    while not over.is_set():
        syntax_tree(SOURCE)


def test_two_threads_and_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `ast.parse` itself a third of the tries fail on CPython 3.11."""
    before = gc.get_threshold()
    over = threading.Event()
    other = threading.Thread(target=deep_in, args=(30, over))
    gc.set_threshold(100, 2, 2)  # collections within a conversion let the other thread in
    other.start()
    try:
        ending = time.monotonic() + 1
        while time.monotonic() < ending:
            assert isinstance(syntax_tree(SOURCE), ast.Module)
    finally:
        over.set()
        other.join()
        gc.set_threshold(*before)


@pytest.mark.parametrize(("failures", "read"), [(3, True), (10**6, False)])
def test_it_tries_again_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, failures: int, read: bool
) -> None:
    left = [failures]
    real = ast.parse

    def parse(source: str, mode: str) -> ast.AST:
        if left[0]:
            left[0] -= 1
            raise SystemError("AST constructor recursion depth mismatch (before=51, after=77)")
        return real(source, mode=mode)

    monkeypatch.setattr(ast, "parse", parse)
    if read:
        assert ast.unparse(syntax_tree("1 + x", "eval")) == "1 + x"
    else:
        with pytest.raises(SystemError, match="depth mismatch"):
            syntax_tree("1 + x", "eval")


def test_other_errors_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SyntaxError):
        syntax_tree("1 +")

    def broken(*_: object, **__: object) -> None:
        raise SystemError("something else")

    monkeypatch.setattr(ast, "parse", broken)
    with pytest.raises(SystemError, match="something else"):
        syntax_tree("1")
