"""Fuzz the recipe loader or the store's records, guided by coverage:

    pip install atheris==3.0.0      (Linux; not one of Hone's dependencies)
    python tests/benchmarks/fuzz_by_coverage.py recipe|record [SECONDS]

`fuzz.py` makes inputs by hypothesis; here libFuzzer (through atheris) keeps those that reach new
branches, and changes them further. It ends with libFuzzer's statistics, or with the input that
raised something other than a sentence.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

KEY = b"k" * 32
NAME = "steps/train/1.json"


def main(what: str, seconds: int) -> None:
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("this needs atheris: pip install atheris==3.0.0")
    with atheris.instrument_imports(
        include=["prefect_hone", "yaml", "tomllib"], enable_loader_override=False
    ):
        target, seeds = {"recipe": _recipe, "record": _record}[what]()
    with tempfile.TemporaryDirectory(prefix="hone-fuzz-") as corpus:
        for index, seed in enumerate(seeds):
            (Path(corpus) / str(index)).write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            "-max_len=8000",
            "-timeout=10",
            "-rss_limit_mb=4096",
        ]
        atheris.Setup([sys.argv[0], corpus, *options, "-print_final_stats=1"], target)
        atheris.Fuzz()


def _recipe() -> tuple[Callable[[bytes], None], list[bytes]]:
    from prefect_hone.recipe.errors import RecipeError
    from prefect_hone.recipe.load import bundled_recipes, parse_recipe
    from prefect_hone.recipe.schema import Recipe
    from prefect_hone.recipe.text import read_text

    def target(content: bytes) -> None:
        said = ""
        try:
            recipe = parse_recipe(read_text(content.decode(errors="replace"), "recipe"))
        except RecipeError as error:
            said = str(error)
        else:
            assert Recipe.model_validate_json(recipe.model_dump_json()).digest() == recipe.digest()
        assert len(said) < 20_000

    return target, [path.read_bytes() for path in bundled_recipes().values()]


def _record() -> tuple[Callable[[bytes], None], list[bytes]]:
    from prefect_hone.ray_workers.dispatch import Done
    from prefect_hone.ray_workers.store.seal import sealed, unsealed
    from prefect_hone.runtimes.digest import tree_digest
    from pydantic import ValidationError

    files = {"weights.safetensors": "1" * 64}
    artifact = {
        "kind": "weights", "sha256": tree_digest(files), "bytes": 9, "uri": "x", "files": files
    }  # fmt: skip
    said = {
        "outputs": {"weights": artifact}, "metrics": {"m": 0.5}, "params": {}, "facts": {},
        "notes": [], "seconds": 1.5,
    }  # fmt: skip
    good = sealed(KEY, NAME, said)

    def target(content: bytes) -> None:
        assert unsealed(KEY, NAME, content) in (None, said)
        unsigned = unsealed(None, NAME, content)
        try:
            done = None if unsigned is None else Done.model_validate(unsigned)
        except ValidationError:
            return
        for found in () if done is None else done.outputs.values():
            assert not any(".." in name.split("/") or name.startswith("/") for name in found.files)

    return target, [good, json.dumps(said).encode()]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
