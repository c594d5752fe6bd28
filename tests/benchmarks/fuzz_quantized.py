"""Random quantized graphs: does OpenVINO compute what ONNX Runtime computes?

    python tests/benchmarks/fuzz_quantized.py [GRAPHS] [SEED]

Each graph is random operators on tokens or images, with layers between them, quantized by
`static-int8` in one of three ways, and compiled for both runtimes as a candidate would be. A graph that OpenVINO refuses,
dies of, or computes more than 5 dB worse than ONNX Runtime is printed with its seed, which shows it
again: GRAPHS 1, that SEED.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from made_graphs import GraphBench, GraphMaker, onnxruntime_outputs, samples
from prefect_hone.ray_workers.model.sqnr import sqnr_db

TOKENS, WIDTH, SIDE = 12, 32, 8
#: By ONNX Runtime's tool to unsigned and to signed activations, and by NNCF.
WAYS: tuple[dict[str, Any], ...] = ({}, {"activations": "s8"}, {"engine": "nncf"})
APART = 5.0  # dB
SECONDS = 120  # of a graph


class Draw:
    """Adds random operators to a graph; the value's shape stays as it is.

    Args:
        seed: Of the choices.
        images: Whether values are images (N, 32, 8, 8), or tokens (N, 12, 32).
    """

    def __init__(self, seed: int, images: bool) -> None:
        self.choose = np.random.default_rng(seed)
        shape = (WIDTH, SIDE, SIDE) if images else (TOKENS, WIDTH)
        self.maker, self.images = GraphMaker(*shape, seed=seed), images
        self.earlier = ["input"]
        self.kinds: list[str] = []

    def graph(self) -> Any:
        steps = self._on_images() if self.images else self._on_tokens()
        for _ in range(int(self.choose.integers(3, 9))):
            kind = str(self.choose.choice(sorted(steps)))
            self.kinds.append(kind)
            steps[kind]()
            self.earlier.append(self.maker.last)
        axes = [2, 3] if self.images else [1]
        self.maker.node("ReduceMean", self.maker.constant(axes), keepdims=0)
        self.maker.linear(WIDTH, 16)
        return self.maker.model(16)

    def _any(self) -> str:
        return str(self.choose.choice(self.earlier))

    def _shared(self) -> dict[str, Callable[[], Any]]:
        maker = self.maker
        return {
            "relu": lambda: maker.node("Relu"),
            "sigmoid": lambda: maker.node("Sigmoid"),
            "clip": lambda: maker.node("Clip", maker.constant(np.float32(-1)),
                                       maker.constant(np.float32(2))),
            "add": lambda: maker.node("Add", self._any()),
            "multiply": lambda: maker.node("Mul", self._any()),
            "square": lambda: maker.node("Mul", maker.last),
            "bias": lambda: maker.node("Add", maker.weight(1)),
        }  # fmt: skip

    def _on_tokens(self) -> dict[str, Callable[[], Any]]:
        return self._shared() | {
            "layer": self._layer, "mix": self._mix, "attend": self._attend, "norm": self._norm,
            "mean": self._mean, "join": self._join, "pad": self._pad, "turn": self._turn,
        }  # fmt: skip

    def _on_images(self) -> dict[str, Callable[[], Any]]:
        maker = self.maker
        return self._shared() | {
            "convolution": lambda: maker.convolution(WIDTH, WIDTH),
            "depthwise": lambda: maker.node(
                "Conv", maker.weight(WIDTH, 1, 3, 3), group=WIDTH, pads=[1] * 4
            ),
            "transposed": lambda: maker.node(
                "ConvTranspose", maker.weight(WIDTH, WIDTH, 3, 3), pads=[1] * 4
            ),
            "pool": lambda: maker.node("MaxPool", kernel_shape=[3, 3], pads=[1] * 4),
            "average": lambda: maker.node("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
            "squeeze": self._squeeze, "join": self._join, "patches": self._patches,
        }  # fmt: skip

    def _layer(self) -> None:
        self.maker.node("MatMul", self.maker.weight(WIDTH, WIDTH))

    def _mix(self) -> None:
        before = self.maker.last
        self.maker.last = self.maker.weight(TOKENS, TOKENS)
        self.maker.node("MatMul", before)

    def _attend(self) -> None:
        value = self.maker.last
        turned = self.maker.node("Transpose", perm=[0, 2, 1])
        self.maker.last = value
        self.maker.node("MatMul", turned)
        self.maker.node("Softmax", axis=-1)
        self.maker.node("MatMul", value)

    def _norm(self) -> None:
        scale, bias = self.maker.weight(WIDTH), self.maker.weight(WIDTH)
        self.maker.node("LayerNormalization", scale, bias, axis=-1)

    def _mean(self) -> None:
        value = self.maker.last
        self.maker.node("ReduceMean", self.maker.constant([1]), keepdims=1)
        self.maker.node("Add", value)

    def _join(self) -> None:
        axis = 1 if self.images else int(self.choose.integers(1, 3))
        width = WIDTH if self.images or axis == 2 else TOKENS
        self.maker.node("Concat", self._any(), axis=axis)
        start = int(self.choose.integers(width))
        ends = (self.maker.constant([value]) for value in (start, start + width, axis))
        self.maker.node("Slice", *ends)

    def _pad(self) -> None:
        self.maker.node("Pad", self.maker.constant([0, 1, 0, 0, 1, 0]))
        self.maker.node("Slice", *(self.maker.constant([value]) for value in (1, TOKENS + 1, 1)))

    def _turn(self) -> None:
        self.maker.node("Reshape", self.maker.constant([0, TOKENS, 4, WIDTH // 4]))
        self.maker.node("Transpose", perm=[0, 2, 1, 3])
        self.maker.node("Transpose", perm=[0, 2, 1, 3])
        self.maker.node("Reshape", self.maker.constant([0, TOKENS, WIDTH]))

    def _squeeze(self) -> None:
        value = self.maker.last
        self.maker.node("GlobalAveragePool")
        self.maker.node("Conv", self.maker.weight(WIDTH, WIDTH, 1, 1))
        self.maker.node("Sigmoid")
        self.maker.node("Mul", value)

    def _patches(self) -> None:
        self.maker.node("Reshape", self.maker.constant([0, WIDTH, SIDE * SIDE]))
        self.maker.node("Transpose", perm=[0, 2, 1])
        self.maker.node("MatMul", self.maker.weight(WIDTH, WIDTH))
        self.maker.node("Transpose", perm=[0, 2, 1])
        self.maker.node("Reshape", self.maker.constant([0, WIDTH, SIDE, SIDE]))


def judge(seed: int) -> dict[str, Any]:
    """SQNR (dB) on each runtime, or what stopped it."""
    drawn = Draw(seed, images=seed % 2 == 1)
    graph = drawn.graph()
    inputs = samples(*drawn.maker.shape, count=64, seed=seed)
    way = WAYS[seed // 2 % len(WAYS)]
    found: dict[str, Any] = {"seed": seed, "kinds": drawn.kinds, "way": way}
    with tempfile.TemporaryDirectory() as folder:
        bench = GraphBench(Path(folder))
        quantized, _ = bench.quantize(graph, inputs, scheme="static-int8", **way)
        expected = onnxruntime_outputs(graph, inputs)
        for target in ("onnxruntime-cpu", "openvino-cpu"):
            try:
                found[target] = sqnr_db(expected, bench.served(target, quantized, inputs))
            except Exception as error:
                found[target] = f"{type(error).__name__}: {error}"[:300]
    return found


def in_child(seed: int) -> dict[str, Any]:
    """The same in a process of its own, which a runtime may end."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(SECONDS)
            try:
                said = judge(seed)
            except Exception as error:
                said = {"seed": seed, "stopped": f"{type(error).__name__}: {error}"[:300]}
            os.write(writes, json.dumps(said).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    died = (
        signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "nothing was said"
    )
    return json.loads(text) if text else {"seed": seed, "stopped": died}


def kind_of(found: dict[str, Any]) -> str:
    if "stopped" in found:
        return "not quantized, or died"
    ours, theirs = found["openvino-cpu"], found["onnxruntime-cpu"]
    if isinstance(ours, str) or isinstance(theirs, str):
        return "refused"
    return f"more than {APART:g} dB worse" if ours < theirs - APART else "as good"


def main(graphs: int, seed: int) -> int:
    counts: Counter[str] = Counter()
    for number in range(seed, seed + graphs):
        found = in_child(number)
        kind = kind_of(found)
        counts[kind] += 1
        if kind != "as good":
            print(json.dumps(found), flush=True)
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())))
    return 0 if counts["as good"] >= 0.95 * graphs else 1


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    sys.exit(main(*given, *(200, 0)[len(given) :]))
