"""Fuzz what reads texts and files of other people: `python tests/benchmarks/fuzz.py [MINUTES]`.

It runs every `tests/**/test_fuzz_*.py` again and again with other seeds, with many more examples
than the tests take, and prints what failed, with the seed that shows it again:
`HONE_FUZZ_SEED=SEED HONE_FUZZ_EXAMPLES=500 pytest FILE`. What they read: recipes and options, paths,
records, checkpoints, journals, archives, models of each format, `surgery.json`, and the files that
describe a registered model. `fuzz_by_coverage.py` does the same for recipes with atheris.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
_EXAMPLES = 100  # of each property in a round: few, so that a failure is soon shown again


def main(minutes: float) -> int:
    files = sorted(_TESTS.rglob("test_fuzz_*.py"))
    end = time.monotonic() + 60 * minutes
    rounds = failures = 0
    while time.monotonic() < end:
        for file in files:
            left = end - time.monotonic()
            if left <= 0:
                break
            seed = random.randrange(2**32)
            command = [sys.executable, "-m", "pytest", "-q", str(file)]
            environment = {**os.environ, "HONE_FUZZ_EXAMPLES": str(_EXAMPLES),
                           "HONE_FUZZ_SEED": str(seed)}  # fmt: skip
            try:
                done = subprocess.run(
                    command, env=environment, cwd=_TESTS.parent, timeout=left + 60,
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                print(f"{file.name}: hangs with seed {seed}", flush=True)
                failures += 1
                continue
            counted = re.search(r"(\d+) passed", done.stdout)
            passed = int(counted[1]) if counted else 0
            state = "passed" if done.returncode == 0 else "FAILED"
            print(f"{file.name:32} {state}  {passed * _EXAMPLES:7,} examples  seed {seed}",
                  flush=True)  # fmt: skip
            if done.returncode:
                failures += 1
                print((done.stdout + done.stderr)[-4000:], flush=True)
        rounds += 1
    print(f"{rounds} rounds over {len(files)} files, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5))
