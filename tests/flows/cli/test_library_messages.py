"""What users' code does wrong, and what libraries then say, in the user's terms.

The first table goes through the real check, the second asks real libraries for their real errors.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bad_situations import BAD
from message_rules import INSIDE, judge
from onnx import helper
from prefect_hone.recipe.errors import HoneError
from prefect_hone.recipe.factories import unexpected, use_code
from prefect_hone.recipe.library_messages import advice, described, telling
from prefect_hone.runtimes.openvino_runtime import core
from steps_bench import Bench
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate


@pytest.fixture(scope="module")
def bench(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    (shared_project / "bad.py").write_text(BAD)
    yield Bench(shared_project, tmp_path_factory.mktemp("bench"))
    use_code(shared_project / "nowhere")


def line_of(text: str) -> str:
    """`bad.py:LINE` of a line of the bad module."""
    (line,) = (n for n, found in enumerate(BAD.splitlines(), 1) if found.strip() == text)
    return f"bad.py:{line}"


FORWARD = [
    ("Double", "a layer has float32 weights, and got float64 (wine_model.py:", "x.float()"),
    ("Meta", "one tensor is on cpu and another on meta", "device=x.device"),
    ("Cuda", "the code asks for a GPU, and there is none that torch can use here (bad.py:",
     "leave devices to Hone"),
    ("Conv", "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
     "[125, 13] (bad.py:", "make the model's forward fit"),
    ("Embed", "an index is outside the table of an embedding: negative, or not below num_embed",
     "as large as the vocabulary"),
    ("FloatIndex", "an embedding takes integers, and got float32 (bad.py:", "x.long()"),
    ("Views", "shape '[-1, 7]' is invalid for input of size 1625 (bad.py:", "fit the inputs"),
    ("Concat", "Expected size 125 but got size 2 for tensor number 1 in the list (bad.py:", "fit"),
    ("Missing", "'Missing' object has no attribute 'nowhere' (bad.py:", "fit the inputs"),
    ("Imports", "No module named 'no_such_module_either' (bad.py:", "fit the inputs"),
    ("NoForward", 'Module [NoForward] is missing the required "forward" function', "fit"),
    ("Nothing", "the model returned None, expected a tensor", None),
    ("NumpyOut", "the model returned an ndarray, expected a tensor", None),
    ("ScalarOut", "the model's output has shape () for a batch of 125", "in the first axis"),
    ("TwoArguments", "missing 1 required positional argument: 'mask'", "fit the inputs"),
    ("Inplace", "a tensor that the gradient needs is changed in place: the output of Exp, shape (",
     "write y = y + 1 instead of y += 1"),
    ("LayerNorm", "Given normalized_shape=[7], expected input with shape [*, 7]", "fit"),
    ("Recursive", "a function calls itself without an end (bad.py:", "fit the inputs"),
    ("Lstm", "LSTM: Expected input to be 2D or 3D, got 4D instead (bad.py:", "fit the inputs"),
    ("Asserts", "AssertionError: assert x.shape[1] == 7 (bad.py:", "fit the inputs"),
    ("Exits", 'your code raised SystemExit: enough', None),
    ("NanOut", "the loss of the untrained model is nan", "look for NaN or infinite values"),
    ("NoInit", "cannot assign module before Module.__init__() call (bad.py:", None),
    ("a_class", "the factory returned the class Net, not an object of it", None),
    ("a_state_dict", "the factory returned an OrderedDict, expected a torch.nn.Module", None),
    ("nothing", "the factory returned None, expected a torch.nn.Module", None),
    ("heads", "embed_dim must be divisible by num_heads (bad.py:", None),
    ("needs", "needs() missing 1 required positional argument: 'width'", None),
    ("prints_secrets", "see https://***@host/x (bad.py:", None),
    ("long_words", "word word ... (bad.py:", None),
    ("many_lines", "raised RuntimeError: first line (bad.py:", None),
    ("exits", "the factory raised SystemExit: 3 (bad.py:", None),
    ("asserts", "AssertionError: set NOWHERE (bad.py:", None),
    ("reads_nowhere", "No such file or directory: '/data/nowhere.npy' (bad.py:", None),
    ("reads_json", "JSONDecodeError: Expecting property name enclosed in double quotes", None),
    ("key_error", "the factory raised KeyError: 'width' (bad.py:", None),
    ("on_gpu", "the code asks for a GPU, and there is none that torch can use here (bad.py:",
     "leave devices to Hone"),
    ("loads_pickle", "No such file or directory: '/nowhere.pt' (bad.py:", None),
    ("hub", "No such file or directory: '/nowhere/hub/hubconf.py' (bad.py:", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "said", "do"), FORWARD, ids=[row[0] for row in FORWARD])
def test_a_model(bench: Bench, tmp_path: Path, name: str, said: str, do: str | None) -> None:
    if "GPU" in said and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(bench, tmp_path, said, do, model={"factory": f"bad:{name}", "args": {}})


JUDGES = [
    ("loss", "loss_class_count", "the target 2 is none of the classes that the model's output has "
     "(bad.py:", "count classes from 0"),
    ("loss", "loss_float", "the loss returned a float, expected a scalar tensor", "the mean over"),
    ("loss", "loss_one_argument", "takes 1 positional argument but 2 were given", "fit the loss"),
    ("loss", "loss_inf", "the loss of the untrained model is inf", "look for NaN or infinite"),
    ("loss", "loss_complex", "a complex number stands where a real one is expected", "real part"),
    ("metric", "metric", "'numpy.ndarray' object has no attribute 'float' (bad.py:", None),
    ("metric", "metric_raises", "per_sample raised ValueError: no classes (bad.py:", None),
    ("metric", "metric_short", "per_sample gave an array of shape (3,) for 125 samples", None),
    ("data", "a_tuple", "the factory returned a tuple, expected a prefect_hone.Data", None),
    ("data", "no_train", "without a training split there must be a calibration split", "calibration="),
    ("data", "unknown_field", "unexpected keyword argument 'tests' (bad.py:", None),
    ("data", "no_arguments", "missing 2 required positional arguments: 'train' and 'test'", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "name", "said", "do"), JUDGES, ids=[row[1] for row in JUDGES])
def test_a_loss_a_metric_or_the_data(
    bench: Bench, tmp_path: Path, field: str, name: str, said: str, do: str | None
) -> None:
    value: Any = f"bad:{name}"
    refused(bench, tmp_path, said, do,
            **{field: {"factory": value, "args": {}} if field == "data" else value})  # fmt: skip


SAMPLES = [
    ("opens", "raised FileNotFoundError: [Errno 2] No such file or directory: "
     "'/data/images/0.png'"),
    ("index", "raised IndexError: list index out of range"),
    ("divides", "raised ZeroDivisionError: integer division or modulo by zero"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "said"), SAMPLES, ids=[row[0] for row in SAMPLES])
def test_a_sample(bench: Bench, tmp_path: Path, kind: str, said: str) -> None:
    data = {"factory": "bad:samples", "args": {"kind": kind}}
    assert "bad.py:" in str(refused(bench, tmp_path, said, None, data=data))


def refused(bench: Bench, tmp_path: Path, said: str, do: str | None, **changed: Any) -> HoneError:
    with pytest.raises(HoneError) as caught:
        bench.check(**changed)
    judge(caught.value, said, tmp_path)
    assert (do or "") in (caught.value.do or "")
    assert not re.search(r"\.\.(?!\.)(?<!\.\.\.)|\.\s*$", caught.value.what), "full stops"
    return caught.value


def test_the_line_is_the_users(bench: Bench, tmp_path: Path) -> None:
    at = line_of("return self.nowhere(x)")
    refused(
        bench, tmp_path, f"({at} in forward)", None, model={"factory": "bad:Missing", "args": {}}
    )


def session(
    *nodes: Any, inputs: Any = None, given: Any = None, weights: Any = ()
) -> Callable[[], Any]:
    """A run of ONNX Runtime of a graph of some nodes."""
    ins = inputs or {"x": ["b", 3]}

    def run() -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        model = onnx_bytes(nodes, ins, weights)
        made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return made.run(None, given if given is not None else {"x": np.zeros((2, 3), "float32")})

    return run


def onnx_bytes(nodes: Any, inputs: dict[str, Any], weights: Any = ()) -> bytes:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes), "g",
        [info(name, 7 if name == "i" else 1, shape) for name, shape in inputs.items()],
        [info("y", 1, None)], list(weights),
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


def node(kind: str, *inputs: str, name: str = "n1", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, ["y"], name=name, **attributes)


def openvino(action: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    def run() -> Any:
        pytest.importorskip("openvino")
        return action(core(), core().read_model(onnx_bytes([node("Relu", "x")], {"x": ["b", 3]})))

    return run


def grown() -> None:
    x = torch.zeros(3, requires_grad=True)
    y = x.exp()
    y += 1
    y.sum().backward()


def twice() -> None:
    x = torch.zeros(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


def leaf() -> None:
    x = torch.zeros(2, requires_grad=True)
    x += 1


def mismatch(text: str) -> Callable[[], Any]:
    def run() -> Any:
        raise RuntimeError(text)

    return run


RESHAPE = [helper.make_tensor("s", 7, [2], [1, 3])]
TABLE = [helper.make_tensor("t", 1, [4, 2], np.zeros(8, np.float32))]
TWO = {"x": ["b", "c"], "z": ["d", "e"]}
Z34 = {"x": np.zeros((2, 3), "float32"), "z": np.zeros((3, 4), "float32")}
LIBRARIES: list[tuple[str, Callable[[], Any], str, str | None, str | None]] = [
    # name, what raises, the sentence, what to do, the field if no line of the user's is known
    ("types", lambda: nn.Linear(3, 3)(torch.zeros(2, 3, dtype=torch.long)),
     "a layer has float32 weights, and got int64", "x.float()", "model.factory"),
    ("half", lambda: nn.Conv2d(1, 1, 3).half()(torch.zeros(1, 1, 4, 4)),
     "a layer has float16 weights, and got float32", "x.float()", "model.factory"),
    ("targets", lambda: F.cross_entropy(torch.zeros(2, 3), torch.tensor([0.0, 1.0])),
     "the loss takes numbers of classes (int64) as targets, and got float32", "y.long()",
     "train.loss"),
    ("devices", mismatch("Expected all tensors to be on the same device, but found at least two "
     "devices, cuda:0 and cpu! (when checking argument for argument mat1 in method)"),
     "one tensor is on cuda:0 and another on cpu", "device=x.device", "model.factory"),
    ("in place", grown, "changed in place: the output of Exp, shape (3,)", "y = y + 1",
     "model.factory"),
    ("leaf", leaf, "a parameter is changed in place", "torch.no_grad()", "model.factory"),
    ("graph twice", twice, "the model keeps a tensor of an earlier step", "detach()",
     "model.factory"),
    ("no gradient", lambda: torch.zeros(2).sum().backward(),
     "the loss does not depend on any parameter that is trained", "detach()", "model.factory"),
    ("not scalar", lambda: torch.zeros(2, requires_grad=True).backward(),
     "the loss is not one number", "its mean over the batch", "train.loss"),
    ("one of a batch", lambda: nn.BatchNorm1d(3)(torch.zeros(1, 3)),
     "batch norm can't be trained on a single sample (1, 3)", "train.batch_size",
     "train.batch_size"),
    ("view", lambda: torch.zeros(4, 6).t().view(24),
     "a view of a tensor that is not contiguous in memory", "reshape", "model.factory"),
    ("lazy", lambda: nn.LazyLinear(3).weight.numel(),
     "a lazy layer of the model does not know its size yet", "once in its factory",
     "model.factory"),
    ("probabilities", lambda: F.binary_cross_entropy(torch.full((2,), 2.0), torch.zeros(2)),
     "binary cross entropy takes probabilities", "sigmoid", "train.loss"),
    ("condition", lambda: bool(torch.zeros(3)), "a condition is on a whole tensor", ".any()", None),
    ("lambda", lambda: pickle.dumps(lambda x: x),
     "is defined inside a function and can't be sent to another process", "top of a module", None),
    ("sizes", lambda: torch.zeros(2, 3) + torch.zeros(4),
     "two tensors have 3 and 4 in dimension 1", None, None),
    ("channels", lambda: nn.Conv2d(3, 1, 3)(torch.zeros(1, 1, 4, 4)),
     "a convolution takes 3 channels, and got 1 (input (1, 1, 4, 4))", None, "model.factory"),
    ("kernel", lambda: nn.Conv2d(1, 1, 9)(torch.zeros(1, 1, 4, 4)),
     "a kernel of 9 x 9 is larger than its input of 4 x 4", None, "model.factory"),
    ("pooling", lambda: nn.MaxPool2d(9)(torch.zeros(1, 1, 4, 4)),
     "a pooling layer leaves nothing of an input of 1x4x4", None, "model.factory"),
    ("array", lambda: torch.zeros(2, requires_grad=True).numpy(),
     "a tensor that needs a gradient can't become an array", "detach()", None),
    ("ragged", lambda: default_collate([torch.zeros(2), torch.zeros(3)]),
     "samples of one batch differ in shape: (2,) and (3,)", "Data(collate=...)", "data.factory"),
    ("ragged lists", lambda: default_collate([[1, 2], [1]]),
     "samples of one batch differ in length", "Data(collate=...)", "data.factory"),
    ("None", lambda: default_collate([None]), "a sample holds None", "for every index",
     "data.factory"),
    ("no tensor", lambda: torch.as_tensor(None), "a sample holds None", "arrays", "data.factory"),
    ("text", lambda: torch.as_tensor("text"), "a sample holds a text", "tokens", "data.factory"),
    ("object", lambda: default_collate([Path("x")]), "a sample holds an object of type pathlib",
     "tensors, arrays or numbers", "data.factory"),
    ("objects", lambda: torch.as_tensor(np.array([None, {}])),
     "a sample holds an array of type object_", "astype", "data.factory"),
    ("sparse", lambda: torch.zeros(3).to_sparse().numpy(), "a sample holds a sparse tensor",
     "to_dense()", "data.factory"),
    ("loader killed", mismatch("DataLoader worker (pid 123) is killed by signal: Killed. "),
     "a process that loads data was killed (Killed)", "/dev/shm", "data.factory"),
    ("loader ended", mismatch("DataLoader worker (pid(s) 1, 2) exited unexpectedly"),
     "a process that loads data was killed", "/dev/shm", "data.factory"),
    ("shared memory", mismatch("unable to open shared memory object </torch_1_2> in read-write mode"),
     "the shared memory ran out", "--shm-size", "data.factory"),
    ("assert on the GPU", mismatch("CUDA error: device-side assert triggered\nCompile with "
     "`TORCH_USE_CUDA_DSA` to enable device-side assertions."),
     "a kernel failed on the GPU: mostly an index or a class outside its range", "without a GPU",
     "model.factory"),
    ("driver", mismatch("CUDA driver version is insufficient for CUDA runtime version"),
     "the GPU's driver is older than torch needs", "update the driver", None),
    ("nccl", mismatch("NCCL error in: /pytorch/x.cpp:317, unhandled system error, NCCL version 2"),
     "NCCL failed between workers", "NCCL_DEBUG", None),
    ("missing input", session(node("Relu", "x"), given={}), "the input 'x' is missing", None, None),
    ("unknown input", session(node("Relu", "x"), given={"x": np.zeros((1, 3), "float32"), "z": np.zeros(1)}),
     "the model has no input 'z'", None, None),
    ("wrong shape", session(node("Relu", "x"), given={"x": np.zeros((1, 4), "float32")}),
     "the input 'x' has 4 in dimension 1, expected 3", None, None),
    ("reshape", session(node("Reshape", "x", "s"), weights=RESHAPE),
     "Reshape 'n1': the shape (2, 3) can't become (1, 3)", None, None),
    ("gather", session(node("Gather", "t", "i"), inputs={"i": ["b"]}, weights=TABLE,
                       given={"i": np.array([7])}),
     "Gather 'n1': the index 7 is not from -4 to 3", None, None),
    ("broadcast", session(node("Add", "x", "z"), inputs=TWO, given=Z34),
     "Add 'n1': sizes 3 and 4 do not fit each other", None, None),
    ("matmul", session(node("MatMul", "x", "z"), inputs=TWO,
                       given={**Z34, "z": np.zeros((2, 4), "float32")}),
     "MatMul 'n1': MatMul dimension mismatch", None, None),
    ("concat", session(node("Concat", "x", "z", axis=1), inputs=TWO, given=Z34),
     "Concat 'n1': Non concat axis dimensions must match", None, None),
    ("attribute", session(node("Relu", "x", nope=3)),
     "Relu 'n1': unrecognized attribute: nope for operator Relu", None, None),
    ("two outputs", session(node("Relu", "x"), node("Relu", "x", name="n2")),
     "two nodes give the same output 'y'", None, None),
    ("no source", mismatch("Nodes in a graph must be topologically sorted, however input 'nope' of "
     "node: \nname:  OpType: Relu\n is not output of any previous nodes."),
     "no node before it gives the input 'nope' of a node", None, None),
    ("inference", lambda: onnx.shape_inference.infer_shapes(
        onnx.load_from_string(onnx_bytes([node("MatMul", "x", "x")], {"x": [2, 3]})),
        strict_mode=True),
     "MatMul 'n1': incompatible dimensions for matrix multiplication", None, None),
    ("no file", lambda: onnxruntime.InferenceSession("/nowhere/model.onnx"),
     "there is no such file", None, None),
    ("openvino shape", openvino(
        lambda core, m: core.compile_model(m, "CPU")({"x": np.zeros((1, 4), "float32")})),
     "input 0 has shape (1, 4), expected (?, 3)", None, None),
    ("openvino name", openvino(
        lambda core, m: core.compile_model(m, "CPU")({"nope": np.zeros((1, 3), "float32")})),
     "the model has no input or output 'nope'", None, None),
    ("openvino device", openvino(lambda core, m: core.compile_model(m, "XPU9")),
     "OpenVINO has no device 'XPU9' here", "hone targets", None),
    ("openvino property", openvino(lambda core, m: core.compile_model(m, "CPU", {"NO_SUCH": 1})),
     "OpenVINO's plugin for the CPU has no property NO_SUCH", None, None),
    ("openvino input", openvino(lambda _, m: m.reshape({"nope": [1, 3]})),
     "the model has no input or output 'nope'", None, None),
    ("openvino file", openvino(lambda core, _: core.read_model("/nowhere/x.xml")),
     "there is no such file: '/nowhere/x.xml'", None, None),
    ("openvino plugin", mismatch("Exception from src/inference/src/cpp/core.cpp:117:\nCannot load "
     "library \"/x/site-packages/openvino/libs/libopenvino_intel_npu_plugin.so\": libze.so.1: "
     "cannot open shared object file: No such file or directory"),
     "OpenVINO's plugin for the NPU needs libze.so.1, which is not installed", "driver", None),
    ("no alias", mismatch("Registered model alias champion not found."),
     "no version has the alias 'champion'", None, None),
    ("no model", mismatch("Registered Model with name=wine not found"),
     "the registry has no model 'wine'", None, None),
    ("refused", mismatch("HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with "
     "url: /api (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at "
     "0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))"),
     "Connection refused", None, None),
    ("prefect away", mismatch("Failed to reach API at http://127.0.0.1:9/api/"),
     "the Prefect server does not answer at http://127.0.0.1:9/api/", None, None),
    ("ray slow", mismatch("The current node timed out during startup. This could happen because "
     "some of the raylet failed to startup or the GCS has become overloaded."),
     "Ray did not start in time", "try again", None),
    ("ray memory", mismatch("Task was killed due to the node running low on memory.\nMemory on the "
     "node (IP: 10.0.0.1, ID: 0f) where the task was running was 15.2GB / 16GB"),
     "the node ran out of memory, and Ray ended the worker", None, None),
    ("ray away", mismatch("Failed to connect to GCS. Please check `gcs_server.out`"),
     "Ray's head node does not answer", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "said", "do", "field"), [row[1:] for row in LIBRARIES], ids=[r[0] for r in LIBRARIES]
)
def test_a_library(
    tmp_path: Path, make: Callable[[], Any], said: str, do: str | None, field: str | None
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (each library has its own)
        make()
    told = telling(caught.value)
    assert said in told
    for pattern in INSIDE:
        assert re.search(pattern, told) is None, told
    row = advice(caught.value)
    if do is not None:
        assert row is not None
        assert row.do is not None
        assert do in row.do
    found = unexpected(caught.value)
    assert said in found.what
    if field is not None:
        assert found.where == field
        judge(found, said, tmp_path)


def test_there_are_enough_of_them() -> None:
    assert sum(map(len, (FORWARD, JUDGES, SAMPLES, LIBRARIES))) > 110


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"), (3, "an int"), ({}, "a dict"), (np.zeros(1), "an ndarray"),
        (nn.Linear, "the class Linear, not an object of it"), (nn.ReLU(), "a ReLU"),
    ],
)  # fmt: skip
def test_what_a_value_is(value: object, said: str) -> None:
    assert described(value) == said


def test_what_is_too_long_ends_with_a_whole_word_or_sentence() -> None:
    assert telling("word " * 100, 50) == "word word word word word word word word word ..."
    assert (
        telling("This is the first sentence. " + "more " * 30, 60) == "This is the first sentence"
    )
