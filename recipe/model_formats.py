"""Formats of model files that a recipe may name, by where the recipe comes from."""

from __future__ import annotations

from pathlib import PurePosixPath

#: Off for recipes from a form or an event, with the reason: what their library evaluates is checked
#: before, but the worker itself must evaluate it, so nothing is left if that check has a mistake.
#: A person who runs a recipe file from the command line chooses the file, too.
OFF_FROM_AFAR: dict[str, str] = {
    ".pt2": "an exported program (.pt2) is read only for a recipe file that a person runs: torch "
    "evaluates expressions and generated source of it",
}


def why_off(source: str, from_afar: bool) -> str | None:
    """Why a recipe may not name a model file; None: it may.

    For a folder (an MLflow model's, a transformers folder), ask for each file in it.

    Args:
        source: The file's path or URL.
        from_afar: Whether the recipe came from a form or an event, not from a file on the command
            line.
    """
    suffix = PurePosixPath(source.partition("?")[0].rstrip("/")).suffix.lower()
    return OFF_FROM_AFAR.get(suffix) if from_afar else None
