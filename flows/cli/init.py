"""`hone init`: a copy of the bundled digits recipe and its code, as a starting point."""

from __future__ import annotations

from pathlib import Path

from ...recipe.errors import InputError
from ...recipe.load import bundled_recipes

_BUNDLED = "prefect_hone.recipe.examples.digits."


def write_start(folder: Path) -> list[Path]:
    """Write a recipe and its code into a folder.

    Raises:
        InputError: The folder is not empty, or can't be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("it is not an empty folder", where=str(folder), do="give a new folder")
    source = bundled_recipes()["digits"].parent
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("recipe.yaml", "digits_model.py", "digits_data.py"):
            text = (source / name).read_text(encoding="utf-8").replace(_BUNDLED, "")
            if name == "recipe.yaml":
                text = text.replace(
                    "name: digits\n",
                    "name: digits\ncode: .                            "
                    "# this folder goes to the workers\n",
                )
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    except OSError as error:
        raise InputError(f"it can't be written: {error.strerror}", where=str(folder)) from None
    return written
