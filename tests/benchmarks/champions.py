"""The bundled recipes' champions against their teachers, as ONNX Runtime runs these in fp32.

    python tests/benchmarks/champions.py [digits/slim] [charlm]

Runs each recipe from nothing, as a user would, and reads its `--json`. Asked: an eighth of the
bytes, four times the speed; digits 0.01 of accuracy at most, charlm 2 % of the bits a character.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TEACHER = "fp32@onnxruntime-cpu"
METRICS = {"digits/slim": "accuracy", "charlm": "bits_per_token"}


def main(recipe: str) -> None:
    hone = Path(sys.executable).with_name("hone")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [str(hone), "run", recipe, "--json"], capture_output=True, text=True, check=False,
            env={**os.environ, "HONE_HOME": home, "PREFECT_HOME": f"{home}/prefect"},
        )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    said = json.loads(done.stdout)
    found: dict[str, Any] = {candidate["name"]: candidate for candidate in said["candidates"]}
    teacher = found[TEACHER]
    quality = f"quality/{METRICS[recipe]}"
    print(f"{recipe}: {time.perf_counter() - started:.0f} s from nothing; against {TEACHER}")
    for name, candidate in found.items():
        if candidate["artifact"] is None or "latency/p50_ms" not in candidate["metrics"]:
            print(f"  {name:34} {candidate['status']}")
            continue
        metrics = candidate["metrics"]
        speed = teacher["metrics"]["latency/p50_ms"] / metrics["latency/p50_ms"]
        size = teacher["artifact"]["bytes"] / candidate["artifact"]["bytes"]
        star = "*" if said["champion"] and said["champion"]["candidate"] == name else " "
        change = 100 * (metrics[quality] / teacher["metrics"][quality] - 1)
        print(
            f"{star} {name:34} {speed:5.2f} times as fast, 1/{size:.1f} of the bytes, "
            f"{METRICS[recipe]} {metrics[quality]:.4f} ({change:+.1f} %)"
        )


if __name__ == "__main__":
    for one in sys.argv[1:] or list(METRICS):
        main(one)
