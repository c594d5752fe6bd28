"""What libraries say, in the user's terms: the cause, where it mostly lies, and what to do.

One row a message. `library_messages.py` looks texts up; an error that passed through the user's
code has the line of that code beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Sentence = Callable[[re.Match[str]], str]

#: torch's and ONNX Runtime's words for the types of tensors.
_TYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
    "double": "float64", "float": "float32", "float16": "float16",
}  # fmt: skip
_DATA, _MODEL = "data.factory", "model.factory"
_PAD = "pad them in the dataset, or give Data(collate=...)"
_CONVERT = "convert the inputs in the dataset, or in forward: x.float()"
_DEVICE = (
    "leave devices to Hone: create tensors with device=x.device, and keep constants as buffers"
)


@dataclass(frozen=True)
class Known:
    """A message of a library.

    Attributes:
        pattern: Finds it in an error's text.
        what: What it means; a text with `{0}` for the pattern's groups, or a function.
        do: What to do; None: that depends.
        field: The field of the recipe that it belongs to, if no line of the user's is known.
    """

    pattern: re.Pattern[str]
    what: str | Sentence
    do: str | None = None
    field: str | None = None

    def sentence(self, found: re.Match[str]) -> str:
        if isinstance(self.what, str):
            return self.what.format(*(group or "" for group in found.groups()))
        return self.what(found)


def known(text: str) -> tuple[Known, str] | None:
    """The row that a text matches, and its sentence; None: there is none."""
    for row in _ROWS:
        if found := row.pattern.search(text):
            return row, row.sentence(found)
    return None


def _type(name: str) -> str:
    return _TYPES.get(
        name.removeprefix("c10::").removeprefix("torch.").removesuffix("Tensor"), name
    )


def _two_types(found: re.Match[str]) -> str:
    return f"a layer has {_type(found[2])} weights, and got {_type(found[1])}"


def _shape(text: str) -> str:
    """`[2, 3]`, `{2,3}` and `2.3` as `(2, 3)`."""
    parts = [part.strip() for part in re.split(r"[,.]", text.strip("[](){} ")) if part.strip()]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


_TORCH: tuple[tuple[str, str | Sentence, str | None, str | None], ...] = (
    # types and devices
    (r"mat1 and mat2 must have the same dtype, but got ([\w:]+) and ([\w:]+)", _two_types,
     _CONVERT, _MODEL),
    (r"Input type \(([\w:.]+)\) and (?:bias|weight) type \(([\w:.]+)\) should be the same",
     _two_types, _CONVERT, _MODEL),
    (r"Expected tensor for argument #\d+ 'indices' to have .*; but got ([\w.]+)",
     lambda m: f"an embedding takes integers, and got {_type(m[1])}",
     "give the indices as integers: x.long()", _MODEL),
    (r"expected target dtype to be Long or Byte, but got (\w+)",
     lambda m: f"the loss takes numbers of classes (int64) as targets, and got {_type(m[1])}",
     "give the targets as integers: y.long(); or name a loss for numbers, as mse", "train.loss"),
    (r"Torch not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available",
     "the code asks for a GPU, and there is none that torch can use here", _DEVICE, _MODEL),
    (r"Expected all tensors to be on the same device, but (?:found at least two devices, (\S+) and "
     r"(\S+?)!|got \w+ is on (\S+), different from other tensors on (\S+?)[ !,])",
     lambda m: f"one tensor is on {m[1] or m[3]} and another on {m[2] or m[4]}", _DEVICE, _MODEL),
    (r"Tensor on device (\S+) is not on the expected device (\S+?)!",
     "one tensor is on {0} and another on {1}", _DEVICE, _MODEL),
    (r"Cannot copy out of meta tensor", "a tensor on the meta device has no values",
     "create the model on the CPU", _MODEL),
    # graphs of gradients
    (r"modified by an inplace operation: \[[\w.]+ \[([\d, ]*)\]\]"
     r"(?:, which is output \d+ of (\w+))?",
     lambda m: "a tensor that the gradient needs is changed in place"
               + (f": the output of {m[2].removesuffix('Backward0')}" if m[2] else "")
               + f", shape {_shape(m[1])}",
     "write y = y + 1 instead of y += 1 in forward, and no operation that ends in _", _MODEL),
    (r"a leaf Variable that requires grad is being used in an in-place operation",
     "a parameter is changed in place", "change it under torch.no_grad(), or not in forward",
     _MODEL),
    (r"Trying to backward through the graph a second time",
     "the model keeps a tensor of an earlier step together with its graph",
     "detach() what the model keeps between calls", _MODEL),
    (r"element 0 of tensors does not require grad",
     "the loss does not depend on any parameter that is trained",
     "look for detach(), torch.no_grad() or numpy in forward or the loss", _MODEL),
    (r"Can't call numpy\(\) on Tensor that requires grad",
     "a tensor that needs a gradient can't become an array", "call detach() first", None),
    (r"grad can be implicitly created only for scalar outputs",
     "the loss is not one number", "return its mean over the batch", "train.loss"),
    (r"Expected more than 1 value per channel when training, got input size "
     r"torch\.Size\(\[(.*?)\]\)",
     lambda m: f"batch norm can't be trained on a single sample {_shape(m[1])}",
     "choose train.batch_size so that no batch or part of one has a single sample",
     "train.batch_size"),
    # shapes and values
    (r"index out of range in self",
     "an index is outside the table of an embedding: negative, or not below num_embeddings",
     "make the embedding as large as the vocabulary of the data", _MODEL),
    (r"view size is not compatible with input tensor's size and stride",
     "a view of a tensor that is not contiguous in memory", "use reshape instead of view", _MODEL),
    (r"Attempted to use an uninitialized parameter",
     "a lazy layer of the model does not know its size yet",
     "call the model once in its factory, or use nn.Linear(inputs, outputs)", _MODEL),
    (r"maximum recursion depth exceeded", "a function calls itself without an end", None, None),
    (r"all elements of input should be between 0 and 1",
     "binary cross entropy takes probabilities, and the output is below 0 or above 1",
     "end the model with a sigmoid, or use a loss of logits", "train.loss"),
    (r"[Tt]arget (-?\d+) is out of bounds",
     "the target {0} is none of the classes that the model's output has",
     "count classes from 0, and give the model as many outputs; -100 is ignored", "train.loss"),
    (r"value cannot be converted to type double without overflow",
     "a complex number stands where a real one is expected", "return its real part or its abs()",
     "train.loss"),
    (r"Boolean value of Tensor with more than one value is ambiguous",
     "a condition is on a whole tensor", "use .any(), .all() or torch.where", None),
    (r"Can't (?:pickle|get) local object '([^']+)'|Can't pickle (<function [^>]*<lambda>)",
     lambda m: f"'{(m[1] or '<lambda>').replace('.<locals>', '')}' is defined inside a function "
               "and can't be sent to another process",
     "define it at the top of a module", None),
    (r"The size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton "
     r"dimension (\d+)",
     "two tensors have {0} and {1} in dimension {2}, which do not fit each other", None, None),
    (r"Given groups=\d+, weight of size \[.*?\], expected input\[(.*?)\] to have (\d+) channels, "
     r"but got (\d+)",
     lambda m: f"a convolution takes {m[2]} channels, and got {m[3]} (input {_shape(m[1])})",
     None, _MODEL),
    (r"padded input size per channel: \((.*?)\)\. Kernel size: \((.*?)\)",
     "a kernel of {1} is larger than its input of {0}", None, _MODEL),
    (r"Given input size: \((.*?)\)\. Calculated output size: .* Output size is too small",
     "a pooling layer leaves nothing of an input of {0}", None, _MODEL),
    # data
    (r"stack expects each tensor to be equal size, but got \[(.*?)\] at entry \d+ and \[(.*?)\]",
     lambda m: f"samples of one batch differ in shape: {_shape(m[1])} and {_shape(m[2])}",
     _PAD, _DATA),
    (r"inconsistent tensor size|each element in list of batch should be of equal size",
     "samples of one batch differ in length", _PAD, _DATA),
    (r"Could not infer dtype of NoneType|batch must contain tensors.*NoneType",
     "a sample holds None", "return tensors, arrays or numbers for every index", _DATA),
    (r"new\(\): invalid data type 'str'|too many dimensions 'str'|batch must contain.*'str'",
     "a sample holds a text",
     "turn texts into numbers in the dataset: tokens, or numbers of classes", _DATA),
    (r"Could not infer dtype of (\w+)|batch must contain tensors.*found <class '([\w.]+)'>",
     lambda m: f"a sample holds an object of type {m[1] or m[2]}",
     "return tensors, arrays or numbers for every index", _DATA),
    (r"can't convert \w+ layout tensor to numpy", "a sample holds a sparse tensor",
     "return to_dense() of it", _DATA),
    (r"can't convert np\.ndarray of type numpy\.(\w+)", "a sample holds an array of type {0}",
     "convert it to numbers in the dataset: array.astype('float32')", _DATA),
    (r"Subclasses of Dataset should implement __getitem__",
     "the dataset has a length and no __getitem__, as an IterableDataset",
     "give a dataset with items, or read the stream into a list", _DATA),
    (r"DataLoader worker \(pid\(?s?\)? [\d, ]+\)? (?:is killed by signal: (\w[\w ]*)|exited)",
     lambda m: "a process that loads data was killed" + (f" ({m[1].strip()})" if m[1] else ""),
     "it may have run out of memory, or of /dev/shm (docker run --shm-size)", _DATA),
    (r"unable to (?:open|write to|allocate) (?:shared memory|file </torch_)",
     "the shared memory ran out", "enlarge /dev/shm (docker run --shm-size)", _DATA),
    # GPUs
    (r"device-side assert triggered",
     "a kernel failed on the GPU: mostly an index or a class outside its range",
     "run once without a GPU, where the line is told", _MODEL),
    (r"CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUDA error: out of memory",
     "the GPU's memory ran out", "lower train.batch_size, or use train.activation_checkpointing",
     "train"),
    (r"CUDA driver version is insufficient", "the GPU's driver is older than torch needs",
     "update the driver, or install torch for an older CUDA", None),
    (r"no kernel image is available for execution on the device",
     "this build of torch has no kernels for this GPU", "install a build of torch for it", None),
    (r"NCCL error[^:\n]*: ([^\n,]+)", "NCCL failed between workers: {0}",
     "NCCL_DEBUG=INFO tells more in the workers' logs", None),
)  # fmt: skip
_RUNTIMES: tuple[tuple[str, str | Sentence, str | None, str | None], ...] = (
    # ONNX Runtime and ONNX
    (r"Required inputs \(\['?([^'\]]+)'?.*\]\) are missing", "the input '{0}' is missing",
     None, None),
    (r"Invalid input name: ?(\S+)", "the model has no input '{0}'", None, None),
    (r"Invalid output name: ?(\S+)", "the model has no output '{0}'", None, None),
    (r"running (\w+) node\. Name:'([^']*)'.*cannot be reshaped to the requested shape\. Input "
     r"shape: ?(\S+), requested shape: ?(\{[\d,\-]*\})",
     lambda m: f"{m[1]} '{m[2]}': the shape {_shape(m[3])} can't become {_shape(m[4])}",
     None, None),
    (r"running (\w+) node\. Name:'([^']*)'.*idx=(-?\d+) must be within the inclusive range "
     r"\[(-?\d+),(-?\d+)\]", "{0} '{1}': the index {2} is not from {3} to {4}", None, None),
    (r"running (\w+) node\. Name:'([^']*)'.*broadcast an axis by a dimension other than 1\. "
     r"(\d+) by (\d+)", "{0} '{1}': sizes {2} and {3} do not fit each other", None, None),
    (r"Duplicate definition of name \(([^)]*)\)", "two nodes give the same output '{0}'",
     None, None),
    (r"the graph is not acyclic", "the graph has a cycle", None, None),
    (r"must be topologically sorted, however input '([^']*)' of node",
     "no node before it gives the input '{0}' of a node", None, None),
    (r"Inference error\(s\): \(op_type:(\w+)(?:, node name: ([^)]*))?\): (?:\[\w+\] )?([^\n]+)",
     lambda m: m[1] + (f" '{m[2]}'" if m[2] else "") + f": {m[3][0].lower()}{m[3][1:]}",
     None, None),
    (r"File doesn't exist", "there is no such file", None, None),
    # OpenVINO
    (r"input tensor with index: (\d+), because the model input \(shape=(\S+)\) and the tensor "
     r"\(shape=(\S*)\) are incompatible",
     lambda m: f"input {m[1]} has shape {_shape(m[3])}, expected {_shape(m[2])}", None, None),
    (r"Port for tensor name (\S+) was not found|Input for tensor name '([^']*)' is not found",
     lambda m: f"the model has no input or output '{m[1] or m[2]}'", None, None),
    (r"Cannot load library \"[^\"]*openvino_intel_(\w+)_plugin\S*\": (\S+): cannot open",
     lambda m: f"OpenVINO's plugin for the {m[1].upper()} needs {m[2]}, which is not installed",
     "install the device's driver and runtime", None),
    (r"Device with \"?(\w+)\"? name is not registered", "OpenVINO has no device '{0}' here",
     "hone targets lists what runs here", None),
    (r"Unsupported property (\S+) by (\w+) plugin",
     "OpenVINO's plugin for the {1} has no property {0}", None, None),
    (r"\] (\w+) node with name '([^']*)' Check '[^\n]*\n(?:\[\w+\])?\w+: ([^\n]+)",
     "{0} '{1}': {2}", None, None),
    (r"Could not open the file: \"?([^\"\n]+)", "there is no such file: '{0}'", None, None),
)  # fmt: skip
_SERVERS: tuple[tuple[str, str | Sentence, str | None, str | None], ...] = (
    (r"Registered Model with name=(.+?) not found", "the registry has no model '{0}'", None, None),
    (r"Registered model alias (\S+) not found", "no version has the alias '{0}'", None, None),
    (r"Run (?:with id=|')(\w+)'? not found", "there is no run {0}", None, None),
    (r"Max retries exceeded.*NewConnectionError|Connection refused", "Connection refused",
     None, None),
    (r"Failed to reach API at (\S+)", "the Prefect server does not answer at {0}", None, None),
    (r"node timed out during startup",
     "Ray did not start in time: the machine is very busy, or short of memory", "try again", None),
    (r"(?:Task|Actor) was killed due to the node running low on memory",
     "the node ran out of memory, and Ray ended the worker", None, None),
    (r"[Ff]ailed to connect to (?:the )?(?:GCS|Ray cluster)", "Ray's head node does not answer",
     None, None),
)  # fmt: skip
_ROWS = tuple(
    Known(re.compile(pattern, re.DOTALL if "Name:" in pattern else 0), what, do, field)
    for pattern, what, do, field in (*_TORCH, *_RUNTIMES, *_SERVERS)
)
