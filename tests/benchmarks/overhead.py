"""What Hone adds over the same work done by hand, as a ratio of whole runs, in turn.

python tests/benchmarks/overhead.py [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from run_time import HONE, row, timed

BY_HAND = Path(__file__).parent / "by_hand.py"


def main(runs: int) -> None:
    hone, hand = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            hone.append(timed([HONE, "run", "digits", "--json"], folder)[0])
            time.sleep(6)  # the run's Prefect server ends by itself
        with tempfile.TemporaryDirectory() as folder:
            hand.append(timed([sys.executable, str(BY_HAND), folder], folder)[0])
    ratios = [a / b for a, b in zip(hone, hand, strict=True)]
    row("hone run digits, cold", hone)
    row("the same by hand", hand)
    print(
        f"{'ratio':28} {statistics.median(ratios):7.2f}    [{min(ratios):.2f}, {max(ratios):.2f}]"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
