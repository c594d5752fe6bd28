"""How much faster compressed models are than ONNX Runtime's fp32, and how much they still agree.

    python tests/benchmarks/compression.py [resnet] [bert] [seconds=4]

Batch 1, one thread, each candidate alone in its process, in rounds interleaved with the others.
Weights are random: speed and agreement with the float model are measured, not accuracy.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from against_first import timed  # noqa: E402
from prefect_hone.ray_workers.model.onnx_files import load_inputs  # noqa: E402
from prefect_hone.ray_workers.runtime_process import RuntimeProcess  # noqa: E402
from prefect_hone.ray_workers.store.artifacts import Artifact  # noqa: E402
from prefect_hone.recipe.errors import HoneError  # noqa: E402
from prefect_hone.tasks import steps  # noqa: E402
from prefect_hone.tasks.benchmark.session import Entrant  # noqa: E402
from prefect_hone.tasks.validate.parity import parity  # noqa: E402
from steps_bench import Bench  # noqa: E402

NNCF = {"kind": "quantize", "scheme": "static-int8", "engine": "nncf", "samples": 16}
ORT = {"kind": "quantize", "scheme": "static-int8", "samples": 16}
DYNAMIC = {"kind": "quantize", "scheme": "dynamic-int8"}
HALF = {"kind": "prune", "method": "channel", "ratio": 0.5}
#: For each model: its factories, and candidates: passes on the module, on the graph, target.
MODELS: dict[str, tuple[str, str, dict[str, tuple[list, list, str]]]] = {
    "resnet": (
        "bench_models:resnet",
        "bench_models:images",
        {
            "fp32@onnxruntime": ([], [], "onnxruntime_cpu"),
            "fp32@openvino": ([], [], "openvino_cpu"),
            "int8@onnxruntime": ([], [ORT], "onnxruntime_cpu"),
            "int8@openvino": ([], [ORT], "openvino_cpu"),
            "int8-nncf@onnxruntime": ([], [NNCF], "onnxruntime_cpu"),
            "int8-nncf@openvino": ([], [NNCF], "openvino_cpu"),
            "half-int8@openvino": ([HALF], [NNCF], "openvino_cpu"),
        },
    ),
    "bert": (
        "bench_models:bert",
        "bench_models:tokens",
        {
            "fp32@onnxruntime": ([], [], "onnxruntime_cpu"),
            "fp32@openvino": ([], [], "openvino_cpu"),
            "int8@onnxruntime": ([], [ORT], "onnxruntime_cpu"),
            "int8@openvino": ([], [ORT], "openvino_cpu"),
            "int8-dynamic@onnxruntime": ([], [DYNAMIC], "onnxruntime_cpu"),
            "int8-nncf@onnxruntime": ([], [NNCF], "onnxruntime_cpu"),
            "int8-nncf@openvino": ([], [{**NNCF, "symmetric": True}], "openvino_cpu"),
            "int8-nncf@openvino-fixed": ([], [{**NNCF, "symmetric": True}], "openvino_cpu fixed"),
            "int8-nncf@openvino-bf16": ([], [{**NNCF, "symmetric": True}], "openvino_cpu bf16"),
            "int8-nncf@openvino-fixed-bf16": (
                [],
                [{**NNCF, "symmetric": True}],
                "openvino_cpu fixed bf16",
            ),
        },
    ),
}


class Maker:
    """Makes candidates, each step once.

    Attributes:
        seconds: How long each step took.
    """

    def __init__(self, folder: Path, model: str, data: str) -> None:
        self.bench = Bench(HERE, folder)
        self.model = {"factory": model, "args": {}}
        self.base = {"model": self.model, "data": {"factory": data, "args": {}},
                     "metric": "accuracy", "seed": 0}  # fmt: skip
        self.weights = self.bench.weights(model)
        train = {"epochs": 1, "batch_size": 4, "loss": "cross_entropy", "seed": 0,
                 "optimizer": {"name": "sgd"}}  # fmt: skip
        self.train = train
        folder_of = self.bench.allowed.call(data, {}, "data")
        self.inputs = self._keep("inputs", folder_of.train)
        self.samples = load_inputs(self.bench.store.fetch(self._keep("samples", folder_of.test)))
        self.seconds: dict[str, float] = {}

    def _keep(self, name: str, dataset: Any) -> Artifact:
        from safetensors.numpy import save_file

        place = self.bench.folder / name
        place.mkdir()
        values = np.stack([dataset[i][0].numpy() for i in range(len(dataset))])
        save_file({"input": values}, str(place / "samples.safetensors"))
        return self.bench.store.put(place, "inputs")

    def candidate(self, name: str, on_module: list, on_graph: list, target: str) -> Artifact:
        module = self.weights
        for step in on_module:
            spec = {**self.base, "compression": step, "label": name, "train": self.train,
                    "higher_is_better": True}  # fmt: skip
            module = self._timed(name, f"compress.{step['kind']}:apply", spec,
                                 module=module).outputs["module"]  # fmt: skip
        graph = self._timed(name, "export:export", {"model": self.model}, weights=module,
                            inputs=self.inputs).outputs["graph"]  # fmt: skip
        for step in on_graph:
            graph = self._timed(name, f"compress.{step['kind']}:apply", {"compression": step},
                                graph=graph, calibration=self.inputs).outputs["graph"]  # fmt: skip
        target, *words = target.split()
        settings = {"kind": target.replace("_", "-")}
        spec: dict[str, Any] = {"target": settings}
        for word in words:
            settings["batch" if word == "fixed" else "precision"] = word
        if "fixed" in words:
            spec["batch_sizes"] = [1]
        return self._timed(name, f"compile.{target}:compile_graph", spec,
                           graph=graph).outputs["model"]  # fmt: skip

    def _timed(self, name: str, function: str, spec: dict[str, Any], **inputs: Artifact) -> Any:
        started = time.perf_counter()
        done = self.bench.run(function, spec, **inputs)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        return done


def main(model: str, seconds: float) -> None:
    factory, data, candidates = MODELS[model]
    with tempfile.TemporaryDirectory() as place:
        maker = Maker(Path(place), factory, data)
        entrants, outputs = [], {}
        batches = [{"input": maker.samples["input"][i : i + 1]} for i in range(8)]
        for name, (on_module, on_graph, target) in candidates.items():
            try:
                artifact = maker.candidate(name, on_module, on_graph, target)
            except HoneError as error:  # bf16 needs a processor that has it
                print(f"{name}: {error}")
                continue
            folder = maker.bench.store.fetch(artifact)
            loader = steps.loader(target.partition(" ")[0].replace("_", "-"))
            with RuntimeProcess(loader, folder, {"threads": 1}) as runtime:
                runtime.wait_loaded()
                outputs[name] = np.concatenate([runtime.predict(batch) for batch in batches])
            entrants.append((Entrant(name, loader, folder, {"threads": 1}), artifact.bytes))
        speed = timed([e for e, _ in entrants], batches, seconds)
    first = next(iter(candidates))
    print(f"{model}, batch 1, 1 thread; ratio to {first}, with its 95 % interval")
    for entrant, size in entrants:
        name = entrant.name
        same = parity(outputs[first], outputs[name])
        print(
            f"  {name:28} {speed[name]}  SQNR {same['parity/sqnr_db']:6.1f} dB  "
            f"cosine {same['parity/cosine']:.4f}  {size / 1e6:6.2f} MB  "
            f"made in {maker.seconds[name]:.0f} s"
        )


if __name__ == "__main__":
    asked = [a for a in sys.argv[1:] if "=" not in a] or list(MODELS)
    options = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    for name in asked:
        main(name, float(options.get("seconds", 4)))
