"""An ONNX file as the model: evaluated with ONNX Runtime, and compressed as a graph.

There is no torch module behind it, so passes on the module and targets that compile from one refuse
it with that reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import torch
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from torch import nn

from ...recipe.errors import InputError, StepFailed
from ...recipe.library_messages import telling
from ..data.calling import INPUT, chosen_output, main_output_name
from .axes import Varying
from .file_kinds import odd_kind
from .onnx_files import name_nodes, rename_value
from .regular_graph import regular

OUTPUT, BATCH = "output", "batch"
#: Of a file of weights. ONNX Runtime takes some names with other signs for addresses in memory.
_FILE_NAME = re.compile(r"[\w@+() .-]{1,255}")
_LONGEST_LOCATION = 1000
#: Nodes with what an execution provider (TensorRT, QNN, OpenVINO) has compiled.
_COMPILED = frozenset({"EPContext", "TRT_EngineOp", "TRTEngineOp"})


class OnnxGraph(nn.Module):
    """A graph called like a module: tensors in, tensors by output name out, by ONNX Runtime.

    Args:
        path: Of the `.onnx` file; weights may be in files beside it.
        where: What an error calls it.

    Attributes:
        path: The same.
        inputs: Names of its inputs, in order.
        parameter_count: Numbers in its constants.

    Raises:
        InputError: It is incomplete, refers outside its folder, or ONNX Runtime can't run it.
    """

    def __init__(self, path: Path, where: str | None = None) -> None:
        super().__init__()
        from ...runtimes.digest import file_digest, tree_digest

        where = where or f"model.source: {path.name}"
        files = model_files(path, where)
        self.path = path
        head = onnx.load(str(path), load_external_data=False)
        constants = {item.name for item in head.graph.initializer}
        self.inputs = [item.name for item in head.graph.input if item.name not in constants]
        self.parameter_count = int(sum(np.prod(t.dims) for t in head.graph.initializer))
        self._fixed = _is_fixed(head)
        digest = tree_digest({f.name: file_digest(f) for f in files})
        # The weights that are kept of this module are its identity.
        self.register_buffer("digest", torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))
        self._session: Any = None
        try:
            self._open()
        except Exception as error:
            raise InputError(
                telling(error),
                where=where,
                do="export it again, for an opset and with operators that this ONNX Runtime has",
            ) from error

    def forward(self, *arguments: torch.Tensor, **named: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs by name, for inputs in order or by name, each (N, ...)."""
        given = dict(zip(self.inputs, arguments, strict=False)) | named
        if set(given) != set(self.inputs):
            raise InputError(
                f"the graph's inputs are {', '.join(self.inputs)}; the data gives "
                f"{', '.join(given)}",
                where="data.factory",
                do="name the inputs of a sample as the graph names them",
            )
        session = self._session or self._open()
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        names = [output.name for output in session.get_outputs()]
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        source: Any = str(self.path)
        if self._fixed:
            model = onnx.load(source)
            free_batch(model)
            source = model.SerializeToString()
        self._session = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"]
        )
        return self._session

    def __deepcopy__(self, _memo: Any) -> OnnxGraph:
        return OnnxGraph(self.path)

    def exported(self, example: dict[str, Any], varying: Sequence[Varying] = ()) -> tuple[Any, str]:
        """The graph in the form of a torch module's export, and its main output's original name.

        One unnamed input is called `input`, the main output `output`, the first axis of each
        `batch`; nodes have names.

        Args:
            example: Real inputs by name, at least 2 samples, by which the batch axis is tried.
            varying: Other axes that must be free.

        Raises:
            StepFailed: Its batch axis can't be freed, or another one that varies is fixed.
        """
        model = regular(onnx.load(str(self.path)), self.path.name)
        outputs = [item.name for item in model.graph.output]
        main = main_output_name(outputs, chosen_output(self))
        _check_varying(model, varying, self.inputs, self.path.name)
        if list(example) == [INPUT]:
            rename_value(model.graph, self.inputs[0], INPUT)
        others = {OUTPUT: f"{OUTPUT}_other"} if main != OUTPUT else {}
        for name in outputs:
            rename_value(model.graph, name, OUTPUT if name == main else others.get(name, name))
        free_batch(model)
        name_nodes(model)
        self._check_batch(example, main)
        return model, main

    def _check_batch(self, example: dict[str, Any], main: str) -> None:
        """Refuse a graph in which the samples of a batch depend on each other."""
        inputs = [torch.from_numpy(value[:2]) for value in example.values()]
        named = dict(zip(self.inputs if len(inputs) == 1 else example, inputs, strict=True))
        problem = "it mixes the samples of a batch"
        try:
            both = self(**named)[main]
            one = self(**{name: value[:1] for name, value in named.items()})[main]
            if both.shape[0] == 2 and torch.allclose(both[:1], one, rtol=1e-2, atol=1e-3):
                return
        except Exception as error:
            problem = telling(error)
        raise StepFailed(
            f"the graph can't take batches of any size: {problem}",
            where=self.path.name,
            do="export it again with a dynamic first axis",
        )


def torch_module(model: nn.Module, who: str) -> nn.Module:
    """The model, for a caller that needs a torch module.

    Raises:
        StepFailed: It is an ONNX graph.
    """
    if isinstance(model, OnnxGraph):
        raise StepFailed(
            f"{who} needs a torch module, but the model is an ONNX graph",
            where=model.path.name,
            do="remove it, or give the torch module that the graph was exported from",
        )
    return model


def count_parameters(model: nn.Module) -> int:
    """Number of learned parameters."""
    if isinstance(model, OnnxGraph):
        return model.parameter_count
    return sum(p.numel() for p in model.parameters())


def model_files(path: Path, where: str | None = None) -> list[Path]:
    """An ONNX file and the files beside it that contain its weights; nothing in them is run.

    Args:
        path: The `.onnx` file.
        where: What an error calls it.

    Raises:
        InputError: It can't be read, is cut off, or names a file outside its folder.
    """
    where = where or f"model.source: {path.name}"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(
            odd_kind(path) or telling(error),
            where=where,
            do="copy or export it again",
        ) from error
    if not model.graph.node or not model.graph.output:
        raise InputError(
            odd_kind(path) or "it is not an ONNX model: it has no nodes or no outputs",
            where=where,
            do="copy or export it again",
        )
    _refuse_compiled_parts(model, where)
    found = {path: 0}
    for tensor in _messages(model, onnx.TensorProto):
        if not uses_external_data(tensor):
            continue
        try:
            said = ExternalDataInfo(tensor)
        except ValueError as error:
            raise InputError(
                f"where its weights lie can't be read: {telling(error)}"[:300],
                where=where,
                do="save it again",
            ) from error
        keys = [entry.key for entry in tensor.external_data]
        if len(set(keys)) < len(keys):
            raise InputError(f"its weights '{said.location}' are named twice", where=where)
        relative = PurePosixPath(said.location)
        beside = path.parent / relative
        if relative.is_absolute() or ".." in relative.parts or "\\" in said.location:
            raise InputError(
                f"its weights '{said.location}' lie outside its folder",
                where=where,
                do="save it again with the weights beside it",
            )
        named = bool(relative.parts) and len(said.location) <= _LONGEST_LOCATION
        if not named or not all(map(_FILE_NAME.fullmatch, relative.parts)):
            raise InputError(
                f"its weights have an unusual name, {said.location[:80]!r}",
                where=where,
                do="save it again with the weights in a file of a plain name",
            )
        if beside.is_symlink() or not beside.resolve().is_relative_to(path.parent.resolve()):
            raise InputError(
                f"its weights '{said.location}' are a symbolic link",
                where=where,
                do="put the file itself there",
            )
        if not beside.is_file():
            raise InputError(
                f"its weights '{said.location}' are missing",
                where=where,
                do="copy them into the same folder",
            )
        found[beside] = max(found.get(beside, 0), (said.offset or 0) + (said.length or 0))
        if beside.stat().st_size < found[beside]:
            raise InputError(
                f"its weights '{said.location}' are cut off: {beside.stat().st_size:,} of "
                f"{found[beside]:,} bytes",
                where=where,
                do="copy them again",
            )
    return list(found)


def _check_varying(model: Any, varying: Sequence[Varying], inputs: list[str], where: str) -> None:
    shapes = {item.name: item.type.tensor_type.shape.dim for item in model.graph.input}
    for axis in varying:
        dims = shapes.get(inputs[0] if axis.input == INPUT else axis.input, ())
        if axis.axis < len(dims) and dims[axis.axis].HasField("dim_value"):
            raise StepFailed(
                f"{axis} varies in the data, and the graph fixes it to {dims[axis.axis].dim_value}",
                where=where,
                do="export it again with this axis dynamic, or pad the data to that size",
            )


def free_batch(model: Any) -> None:
    """Make the first axis of every input and output dynamic, named `batch`."""
    for item in (*model.graph.input, *model.graph.output):
        shape = item.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]  # shapes of inner values may hold the old size


def _is_fixed(model: Any) -> bool:
    constants = {item.name for item in model.graph.initializer}
    shapes = [i.type.tensor_type.shape for i in model.graph.input if i.name not in constants]
    return any(shape.dim and shape.dim[0].HasField("dim_value") for shape in shapes)


def _refuse_compiled_parts(model: Any, where: str) -> None:
    """Refuse what an execution provider has compiled: native code, from another file or from here.

    Raises:
        InputError: There is some.
    """
    for node in _messages(model, onnx.NodeProto):
        if node.op_type in _COMPILED:
            raise InputError(
                f"its node '{node.name[:80]}' ({node.op_type}) is compiled for one device",
                where=where,
                do="give the model as it was before it was compiled",
            )


def _messages(model: Any, kind: type) -> Iterator[Any]:
    """Every message of a kind anywhere in a model: also in functions, and sparse tensors."""
    messages = [model]
    while messages:
        message = messages.pop()
        if isinstance(message, kind):
            yield message
        if isinstance(message, onnx.TensorProto):
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                messages.extend([value] if hasattr(value, "ListFields") else value)
