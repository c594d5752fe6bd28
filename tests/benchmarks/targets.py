"""What it takes to compile for each target that runs here, and what comes of it.

    python tests/benchmarks/targets.py [digits] [resnet] [bert] [seconds=2]

Each target compiles in a fresh process; its time is that of the step alone, its memory the most
that the process and those that it starts held, imports of Hone and torch included. Then all are
timed against each other: batch 1, one thread. Weights are random.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from against_first import timed  # noqa: E402
from compression import Maker  # noqa: E402
from prefect_hone.ray_workers.dispatch import Done  # noqa: E402
from prefect_hone.ray_workers.runtime_process import RuntimeProcess, interpreter_for  # noqa: E402
from prefect_hone.recipe.errors import HoneError  # noqa: E402
from prefect_hone.recipe.targets import AnyTarget, all_targets  # noqa: E402
from prefect_hone.tasks.benchmark.session import Entrant  # noqa: E402
from prefect_hone.tasks.compile import target_functions  # noqa: E402
from prefect_hone.tasks.steps import loader  # noqa: E402
from prefect_hone.tasks.validate.parity import parity  # noqa: E402

MODELS = {
    "digits": ("bench_models:digits", "bench_models:small_images"),
    "resnet": ("bench_models:resnet", "bench_models:images"),
    "bert": ("bench_models:bert", "bench_models:tokens"),
}


def compiled(maker: Maker, target: AnyTarget, graph: Any) -> Done:
    """What the target's compile step gives, run in a process of its own."""
    spec = {"target": target.model_dump(mode="json")}
    inputs = {"graph": graph}
    if target.takes == "module":
        spec |= {"model": maker.model, "passes": [], "batch_sizes": [1]}
        inputs = {"module": maker.weights, "calibration": maker.inputs}
    function = f"compile.{target.kind.replace('-', '_')}:compile_graph"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply(_run, (str(maker.bench.folder), function, spec, inputs))
    if isinstance(answer, dict):
        raise HoneError.from_dict(answer)
    return answer


def _run(folder: str, function: str, spec: dict[str, Any], inputs: dict[str, Any]) -> Any:
    from steps_bench import Bench

    try:
        return Bench(HERE, Path(folder)).run(function, spec, **inputs)
    except HoneError as error:
        return error.to_dict()


def main(name: str, seconds: float) -> None:
    factory, data = MODELS[name]
    here = [t for t in all_targets() if target_functions(t.kind).availability(t) is None]
    for target in here:  # so that no time of a first use is measured
        interpreter_for(target.environment, print)
    with tempfile.TemporaryDirectory() as place:
        maker = Maker(Path(place), factory, data)
        graph = maker.bench.run("export:export", {"model": maker.model}, weights=maker.weights,
                                inputs=maker.inputs).outputs["graph"]  # fmt: skip
        key = next(iter(maker.samples))
        batches = [{key: maker.samples[key][i : i + 1]} for i in range(8)]
        made: list[tuple[Entrant, Done]] = []
        outputs: dict[str, Any] = {}
        print(f"{name}, fp32, batch 1, 1 thread; ratio to {here[0].name}")
        for target in here:
            try:
                done = compiled(maker, target, graph)
            except HoneError as error:
                print(f"  {target.name:18} {error}")
                continue
            folder = maker.bench.store.fetch(done.outputs["model"])
            python = interpreter_for(target.environment)
            entrant = Entrant(target.name, loader(target.kind), folder, {"threads": 1}, python)
            with RuntimeProcess(entrant.loader, folder, {"threads": 1}, python=python) as runtime:
                runtime.wait_loaded()
                outputs[target.name] = np.concatenate([runtime.predict(b) for b in batches])
            made.append((entrant, done))
        speed = timed([e for e, _ in made], batches, seconds)
    for entrant, done in made:
        same = parity(outputs[here[0].name], outputs[entrant.name])
        print(
            f"  {entrant.name:18} compiled in {done.seconds:6.1f} s with "
            f"{done.peak_memory / 1e6:6.0f} MB; {done.outputs['model'].bytes / 1e6:7.2f} MB, "
            f"{speed[entrant.name]}, max. error {same['parity/max_abs_error']:.1e}"
        )


if __name__ == "__main__":
    asked = [a for a in sys.argv[1:] if "=" not in a] or list(MODELS)
    options = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    for one in asked:
        main(one, float(options.get("seconds", 2)))
