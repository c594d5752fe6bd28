"""Rows of the tables on a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, and what it is sorted by."""

    text: str
    sort: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: Its first cell.
        cells: The others.
        kind: `winner`, `baseline`, the candidate's status, or empty.
    """

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""
