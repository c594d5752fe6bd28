"""What every message that a user sees keeps."""

from __future__ import annotations

import re
from pathlib import Path

from prefect_hone.recipe.errors import HoneError

LONGEST = 400  # characters, without the folder of the test
INSIDE = (
    "Traceback",
    "/artifacts/",
    "site-packages",
    r"\x1b\[",
    r"prefect_hone\.(?!Data\b)\w+\.",
    r"\.(cc|cpp|h|hpp|cu):\d",
    r"0x[0-9a-f]{4}",
    r"hone-\w+-\w{6,}/",
)


def judge(error: HoneError, said: str, tmp_path: Path, code: int = 2) -> None:
    """What every message keeps, and the sentence of this one."""
    text = str(error)
    assert said in text
    assert error.exit_code == code, text
    shown = text.replace(str(tmp_path.resolve()), "").replace(str(tmp_path), "")
    for pattern in INSIDE:
        assert re.search(pattern, shown) is None, f"{pattern} in: {text}"
    assert error.what.strip()
    assert error.where or re.search(r"recipe\.(yaml|toml):\d+: ", text), text
    assert len(shown) <= LONGEST, text
    assert "\n\n" not in text
