"""Tensor parallel: the matrices of a block are split over the workers of the axis `tensor`.

Column- and row-parallel linear layers (Shoeybi et al., "Megatron-LM",
https://arxiv.org/abs/1909.08053) and sequence parallel between them (Korthikanti et al.,
https://arxiv.org/abs/2205.05198), through torch's DTensor. A plan says for each layer how it is
split: the model's own, a transformers model's, a function that the recipe names, or one that is
derived from how the layers are connected (attention: from their names) and verified on a batch.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from ....recipe.errors import InputError
from ....recipe.factories import Allowed
from ....recipe.parallel import TensorParallel
from ...model.ties import replace_parameter, tied_parameters
from .axes import Axes
from .connections import find_pairs

IMPLEMENT = (
    "give the model a method tensor_parallel_plan(sequence_parallel) that returns "
    "{'blocks.*.query': 'colwise', 'blocks.*.out': 'rowwise', ...}, or name such a function of the "
    "model in train.parallel.tensor.plan"
)
#: Usual names of the layers of attention and MLP: split by columns, then by rows.
_COLWISE = (
    "query|key|value|q|k|v|q_proj|k_proj|v_proj|to_q|to_k|to_v|q_lin|k_lin|v_lin|wq|wk|wv|"
    "up|gate|fc1|c_fc|lin1|linear1|up_proj|gate_proj|w1|w3|wi|wi_0|wi_1|dense_h_to_4h|ffn"
)
_ROWWISE = (
    "out|o|out_proj|o_proj|to_out|out_lin|wo|down|fc2|lin2|linear2|down_proj|w2|"
    "dense_4h_to_h|attention_out|proj|ffn_output"
)
_ATTENTION_OUT = "out|o|out_proj|o_proj|to_out|out_lin|wo|attention_out|dense"
_ATTENTION = re.compile("^(query|key|value|q|k|v|to_[qkv]|[qkv]_proj|[qkv]_lin|w[qkv])$")
#: Usual names of the number of heads.
HEADS = (
    "num_heads",
    "n_heads",
    "n_head",
    "heads",
    "num_attention_heads",
    "num_key_value_heads",
    "n_kv_heads",
)


@dataclass(frozen=True)
class TensorPlan:
    """How each layer is split.

    Attributes:
        source: Where the plan comes from, in words.
        styles: A style, by name or as torch's object, for each layer or pattern of layers.
        derived: Whether it was derived, so that it must be verified.
        heads: Modules whose number of heads is divided, with the attribute's name.
        instead: Of a derived plan, what is left of it without attention, whose code may need whole
            matrices; None: nothing is.
    """

    source: str
    styles: dict[str, str | ParallelStyle]
    derived: bool = False
    heads: tuple[tuple[str, str], ...] = ()
    instead: TensorPlan | None = None

    def describe(self) -> str:
        """A sentence for the user about the plan."""
        said = ", ".join(f"{name} {style}" for name, style in self.styles.items())
        return f"tensor parallel by {self.source}: {said}"


def plan_for(model: nn.Module, spec: TensorParallel, workers: int, allowed: Allowed) -> TensorPlan:
    """The plan of a model.

    Raises:
        InputError: There is none and none can be derived, or it does not fit the model; with what
            to implement.
    """
    if spec.plan != "auto":
        function: Callable[..., Any] = allowed.resolve(spec.plan, "train.parallel.tensor.plan")
        plan = TensorPlan(f"'{spec.plan}'", dict(function(model, spec.sequence)))
    elif callable(own := getattr(model, "tensor_parallel_plan", None)):
        plan = TensorPlan("the model's tensor_parallel_plan", dict(own(spec.sequence)))
    elif isinstance(built_in := getattr(model, "tp_plan", None), Mapping) and built_in:
        plan = TensorPlan("the plan that transformers has for the model", dict(built_in))
    else:
        if spec.sequence:
            raise InputError(
                "sequence parallel can't be derived from a model's layers",
                where="train.parallel.tensor.sequence",
                do=IMPLEMENT,
            )
        plan = _derive(model, workers)
    try:
        _check(model, plan, workers)
    except InputError:
        if plan.instead is None:
            raise
        plan = plan.instead
        _check(model, plan, workers)
    return plan


def split_layers(model: nn.Module, plan: TensorPlan, axes: Axes, sequence: bool) -> None:
    """Split a model's layers in place."""
    styles = {
        pattern: _style(style, sequence) if isinstance(style, str) else style
        for pattern, style in plan.styles.items()
    }
    tied = tied_parameters(model)
    parallelize_module(model, axes.sub("tensor"), styles)
    for names in tied:
        _tie_again(model, names)
    for name, attribute in plan.heads:
        module = model.get_submodule(name)
        setattr(module, attribute, getattr(module, attribute) // axes["tensor"])


def _tie_again(model: nn.Module, names: Sequence[str]) -> None:
    """Make the parts of a tied parameter one again, after each of its layers was split.

    Raises:
        InputError: Its layers are split in different ways.
    """
    parts = [model.get_parameter(name) for name in names]
    placements = [part.placements if isinstance(part, DTensor) else None for part in parts]
    if any(placement != placements[0] for placement in placements):
        raise _split_unlike(names)
    for name in names[1:]:
        replace_parameter(model, name, parts[0])


def _split_unlike(names: Sequence[str]) -> InputError:
    return InputError(
        f"the tensor plan splits {' and '.join(repr(name) for name in names)} in different ways, "
        "and they are one parameter",
        where="train.mesh.tensor",
        do="split all layers of a tied parameter along the same dimension (an embedding by "
        "embedding_rowwise and a linear layer by colwise), or none of them",
    )


def prove(plan: TensorPlan, expected: torch.Tensor, found: torch.Tensor) -> None:
    """Refuse a derived plan that changes what the model computes.

    Args:
        plan: The plan.
        expected: The whole model's outputs.
        found: The split model's.

    Raises:
        InputError: They differ.
    """
    same_shape = expected.shape == found.shape
    if not same_shape or not torch.allclose(expected, found, rtol=1e-3, atol=1e-4):
        error = float((expected - found).abs().max()) if same_shape else float("nan")
        raise InputError(
            f"the derived plan changes the model's outputs (by up to {error:.2g}): "
            f"{plan.describe()}",
            where="train.mesh.tensor",
            do=IMPLEMENT,
        )


def _style(name: str, sequence: bool) -> ParallelStyle:
    match name:
        case "colwise":
            return ColwiseParallel(input_layouts=Shard(1) if sequence else Replicate())
        case "rowwise":
            return RowwiseParallel(output_layouts=Shard(1) if sequence else Replicate())
        case "colwise_gather_output" | "colwise_rep":
            return ColwiseParallel(output_layouts=Replicate())
        case "embedding_rowwise":
            return RowwiseParallel(input_layouts=Replicate())
        case "sequence" | "sequence_parallel":
            return SequenceParallel(use_local_output=True)
        case "split_sequence":
            return PrepareModuleOutput(
                output_layouts=Replicate(),
                desired_output_layouts=Shard(1),
                use_local_output=True,
            )
        case "join_sequence":
            return ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())
    raise InputError(
        f"the tensor plan has the unknown style '{name}'",
        where="train.mesh.tensor",
        do="known: colwise, rowwise, colwise_gather_output, embedding_rowwise, sequence, "
        "split_sequence, join_sequence, or a ParallelStyle of torch",
    )


def _check(model: nn.Module, plan: TensorPlan, workers: int) -> None:
    """Check that every pattern matches a layer, and that every layer can be split evenly."""
    names = dict(model.named_modules())
    for pattern, style in plan.styles.items():
        met = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not met:
            raise InputError(
                f"{plan.source} names '{pattern}', and the model has no such layer",
                where="train.mesh.tensor",
                do=f"its layers are: {', '.join(list(names)[1:12])}, ...",
            )
        if isinstance(style, str):
            _style(style, sequence=False)
        for name in met:
            layer = names[name]
            if not isinstance(layer, nn.Linear) or not isinstance(style, str):
                continue
            size = layer.in_features if style == "rowwise" else layer.out_features
            if style in ("colwise", "rowwise") and size % workers:
                raise InputError(
                    f"{name} has {size} {'inputs' if style == 'rowwise' else 'outputs'}, which "
                    f"can't be divided evenly among {workers} workers",
                    where="train.mesh.tensor",
                    do="use a number that divides it, or widen the layer",
                )
    for tied in tied_parameters(model):
        if len({_dimension(names, plan, name) for name in tied}) > 1:
            raise _split_unlike(tied)
    divided = {name for name, _ in plan.heads} if plan.derived else set(names)
    for name, module in names.items():
        for attribute in HEADS if name in divided else ():
            count = getattr(module, attribute, None)
            if isinstance(count, int) and not isinstance(count, bool) and count % workers:
                raise InputError(
                    f"{name or 'the model'} has {attribute}={count}, which can't be dealt out to "
                    f"{workers} workers",
                    where="train.mesh.tensor",
                    do="use a number of workers that divides the heads",
                )


def _dimension(names: Mapping[str, nn.Module], plan: TensorPlan, parameter: str) -> object:
    """The dimension that a plan splits a parameter along; None if it leaves it whole."""
    layer = parameter.rpartition(".")[0]
    for pattern, style in plan.styles.items():
        if not fnmatch.fnmatchcase(layer, pattern):
            continue
        by_rows = style in ("rowwise", "embedding_rowwise")
        if not isinstance(style, str) or style in ("sequence", "sequence_parallel"):
            return None
        if isinstance(names[layer], nn.Embedding):
            return 0 if by_rows else 1
        return 1 if by_rows else 0
    return None


#: Blocks whose halves are in different children, as in BERT and ViT: columns, row, owner of heads.
_SPREAD = (
    (("self.query", "self.key", "self.value"), "output.dense", "self"),
    (("attention.query", "attention.key", "attention.value"), "output.dense", "attention"),
    (("intermediate.dense",), "output.dense", None),
)


@dataclass(frozen=True)
class Group:
    """Layers that belong together: the columns of some are the rows of one.

    Attributes:
        columns: Linear layers whose outputs are combined.
        row: The linear layer that takes the result.
        is_attention: Whether the columns are query, key and value.
        heads: Modules that have the number of heads, with the attribute's name.
    """

    columns: tuple[str, ...]
    row: str
    is_attention: bool
    heads: tuple[tuple[str, str], ...] = ()

    def head_count(self, model: nn.Module) -> int | None:
        """Heads of an attention group, if the model has that number."""
        for owner, attribute in self.heads:
            return int(getattr(model.get_submodule(owner), attribute))
        parent = model.get_submodule(self.row.rpartition(".")[0])
        size = getattr(parent, "head_size", getattr(parent, "head_dim", None))
        width = model.get_submodule(self.row).in_features
        return int(width) // size if isinstance(size, int) and size else None


def groups_of(model: nn.Module, side_by_side: bool = False) -> list[Group]:
    """The attention and MLP blocks of a model, recognized by the names of their layers.

    Args:
        model: The model.
        side_by_side: Also those whose layers are in one module. Such code tends to derive the width
            of a head from the model's, which does not fit the fewer heads of a tensor parallel
            worker.
    """
    found: list[Group] = []
    for name, parent in model.named_modules():
        prefix = f"{name}." if name else ""
        inner = dict(parent.named_modules())
        for columns, row, owner in _SPREAD:
            layers = [inner.get(part) for part in (*columns, row)]
            if all(isinstance(layer, nn.Linear) for layer in layers):
                heads = _head_attributes(inner.get(owner or ""), f"{prefix}{owner}")
                named = tuple(f"{prefix}{n}" for n in columns)
                found.append(Group(named, f"{prefix}{row}", owner is not None, heads))
                break
        layers_here = {n: m for n, m in parent.named_children() if isinstance(m, nn.Linear)}
        first = [n for n in layers_here if re.fullmatch(_COLWISE, n)]
        is_attention = any(_ATTENTION.match(n) for n in first)
        rows = f"{_ROWWISE}|dense" if is_attention else _ROWWISE  # as ALBERT calls it
        last = [n for n in layers_here if re.fullmatch(rows, n)]
        if isinstance(parent, nn.MultiheadAttention):
            continue  # its projections are one parameter, used by a fused kernel
        for begin, end in _halves(first, last) if side_by_side else [(first, last)]:
            if not begin or len(end) != 1:
                continue
            width = layers_here[end[0]].in_features
            if any(layers_here[n].out_features > width for n in begin):
                continue
            attends = any(_ATTENTION.match(n) for n in begin)
            heads = _head_attributes(parent, name) if attends else ()
            named = tuple(f"{prefix}{n}" for n in begin)
            found.append(Group(named, f"{prefix}{end[0]}", attends, heads))
    return found


def _halves(first: list[str], last: list[str]) -> list[tuple[list[str], list[str]]]:
    """Attention and MLP apart, where one module has the layers of both."""
    attention = [n for n in first if _ATTENTION.match(n)]
    if not attention or len(attention) == len(first):
        return [(first, last)]
    outs = [n for n in last if re.fullmatch(_ATTENTION_OUT, n)]
    return [
        (attention, outs),
        ([n for n in first if n not in attention], [n for n in last if n not in outs]),
    ]


def _head_attributes(module: nn.Module | None, name: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, a) for a in HEADS if isinstance(getattr(module, a, None), int))


def _derive(model: nn.Module, workers: int) -> TensorPlan:
    """A plan from how layers are connected, and attention's from their names, which tell its heads.

    A block is split only if it has both halves.

    Raises:
        InputError: No layer can be split.
    """
    groups = groups_of(model)
    whole = _derived(model, workers, groups)
    if whole is None:
        raise InputError(
            "no layers of the model can be split: no attention is known by its layers' names, and "
            f"no linear layer of a width that {workers} divides leads to another through "
            "activations only",
            where="train.mesh.tensor",
            do=IMPLEMENT,
        )
    others = [group for group in groups if not group.is_attention]
    if len(others) == len(groups):
        return whole
    attention = {n for group in groups if group.is_attention for n in (*group.columns, group.row)}
    return replace(whole, instead=_derived(model, workers, others, attention))


def _derived(
    model: nn.Module, workers: int, groups: Sequence[Group], left: Collection[str] = ()
) -> TensorPlan | None:
    """The plan of some groups and of what is connected; None if nothing can be split.

    Args:
        model: The model.
        workers: Among which layers are split.
        groups: That are split.
        left: Layers that stay whole.
    """
    styles: dict[str, str | ParallelStyle] = {}
    heads: list[tuple[str, str]] = []
    for group in groups:
        styles |= dict.fromkeys(group.columns, "colwise")
        styles[group.row] = "rowwise"
        heads += group.heads
    for pair in find_pairs(model, styles):
        if {*pair.columns, pair.row}.intersection(left) or _in_attention(model, pair.row):
            continue
        if pair.width % workers == 0:
            styles |= dict.fromkeys(pair.columns, "colwise")
            styles[pair.row] = "rowwise"
    if not styles:
        return None
    source = "a plan derived from how layers are connected"
    return TensorPlan(
        f"{source} (attention stays whole)" if left else source,
        styles,
        derived=True,
        heads=tuple(heads),
    )


def _in_attention(model: nn.Module, layer: str) -> bool:
    """Whether a layer belongs to torch's attention, whose kernel takes whole matrices."""
    parent = model.get_submodule(layer.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention | nn.TransformerEncoderLayer)
