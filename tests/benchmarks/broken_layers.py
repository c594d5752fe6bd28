"""Is the layer that was broken the one that is named? ResNet-18 and a BERT encoder, int8, ten layers each.

One layer's weights are replaced by others of the same spread before the graph is quantized; then the
layers of the quantized graph are compared with those of the intact one. Nothing is timed.
"""

from __future__ import annotations

import copy
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from prefect_hone.ray_workers.model.onnx_files import layer_of, name_layers
from prefect_hone.tasks.validate.layer_parity import departure, layer_parity
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

TRIES, WANTED = 10, 9


def resnet() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    config = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
    return ResNetForImageClassification(config), (torch.randn(8, 3, 64, 64),)


def bert() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
                        intermediate_size=256, vocab_size=500)  # fmt: skip
    return BertModel(config), (torch.randint(0, 500, (8, 24)),)


class FirstOutput(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[0]


def exported(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> Any:
    path = folder / "model.onnx"
    whole = FirstOutput(model).eval()
    torch.onnx.export(whole, inputs, str(path), dynamo=True, input_names=["x"], output_names=["output"],
                      external_data=False, optimize=True)  # fmt: skip
    graph = onnx.load(str(path))
    name_layers(graph)
    return graph


class Reader(CalibrationDataReader):
    def __init__(self, values: np.ndarray) -> None:
        self._rows = iter([{"x": values}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def quantized(graph: Any, values: np.ndarray, folder: Path) -> Any:
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(graph, str(before))
    quantize_static(str(before), str(after), Reader(values), quant_format=QuantFormat.QDQ,
                    per_channel=True, reduce_range=True)  # fmt: skip
    return onnx.load(str(after))


def broken(graph: Any, layer: str, seed: int) -> Any:
    """A copy whose one layer has other weights of the same spread."""
    changed = copy.deepcopy(graph)
    values = {item.name: item for item in changed.graph.initializer}
    made = np.random.default_rng(seed)
    for node in changed.graph.node:
        if layer_of(node) != layer:
            continue
        for name in node.input:
            if name in values and len(values[name].dims) >= 2:
                old = numpy_helper.to_array(values[name])
                new = (made.normal(size=old.shape) * old.std()).astype(old.dtype)
                values[name].CopyFrom(numpy_helper.from_array(new, name))
    return changed


def layers_with_weights(graph: Any) -> list[str]:
    names = {item.name for item in graph.graph.initializer if len(item.dims) >= 2}
    found = {
        layer_of(node): None
        for node in graph.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and any(name in names for name in node.input)
    }
    return list(found)


def main() -> int:
    torch.manual_seed(0)
    right = {}
    for name, make in (("ResNet-18", resnet), ("BERT encoder", bert)):
        with tempfile.TemporaryDirectory() as folder:
            model, inputs = make()
            graph = exported(model, inputs, Path(folder))
            values = inputs[0].numpy()
            chosen = random.Random(0).sample(layers_with_weights(graph), TRIES)
            right[name] = 0
            for seed, layer in enumerate(chosen):
                bad = quantized(broken(graph, layer, seed), values, Path(folder))
                found = departure(layer_parity(graph, bad, {"x": values}))
                hit = found is not None and found.layer == layer
                right[name] += hit
                print(f"{name}: broke {layer}: {'named' if hit else f'NOT named, but {found}'}")
            intact = departure(
                layer_parity(graph, quantized(graph, values, Path(folder)), {"x": values})
            )
            print(
                f"{name}: intact int8: {'no departure' if intact is None else f'FALSE ALARM {intact}'}"
            )
    for name, count in right.items():
        print(f"{name}: {count} of {TRIES} named (wanted {WANTED})")
    return 0 if all(count >= WANTED for count in right.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
