"""The table of attacks names tests that exist, and they hold enough hostile inputs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
TABLE = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
POINTS = [*(f"C{i}" for i in (1, 2)), *(f"H{i}" for i in range(1, 9)),
          *(f"M{i}" for i in range(1, 17)), "low"]  # fmt: skip


def test_every_attack_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\w+) \|.*\| (.*) \|$", TABLE, re.MULTILINE)
    assert {point for point, _ in rows} >= set(POINTS)
    named = re.findall(r"`(\w+/[\w/]+\.py)(?:::(\w+))?`", TABLE)
    assert len(named) > 80
    functions: dict[str, set[str]] = {}
    for file, test in named:
        if file not in functions:
            tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
            functions[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert not test or test in functions[file], f"{file}::{test}"
