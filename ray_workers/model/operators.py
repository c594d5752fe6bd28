"""Which functions the graph of a `torch.export` program may call.

A graph names what it calls; torch looks the name up among all attributes of `torch`, so that
`torch.os.system` would be found, and calls it when the model runs. Allowed are operators that
compute tensors from tensors and numbers, by their registered signature: not those that take a path
(`aten::from_file`), a storage or an object of C++.
"""

from __future__ import annotations

import re

from ..torch_private import DECOMPOSED, operator_arguments

_PYTHON = frozenset({
    "abs", "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lshift", "lt", "mod",
    "mul", "ne", "neg", "not_", "or_", "pos", "pow", "rshift", "sub", "truediv",
})  # fmt: skip
_MATH = frozenset({"ceil", "floor", "trunc", "sqrt"})
_SYMBOLIC = frozenset({
    "sym_float", "sym_fresh_size", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not",
    "sym_sqrt", "sym_sum",
})  # fmt: skip
#: Operators that take graphs; what these call is checked, too.
_HIGHER_ORDER = frozenset({
    "associative_scan", "cond", "map_impl", "scan", "while_loop", "wrap_with_autocast",
    "wrap_with_set_grad_enabled",
})  # fmt: skip
_ARGUMENTS = re.compile(
    r"(?:Tensor|int|float|bool|number|Device|Generator|SymInt|"
    r"(?:List|Optional)\[(?:(?:List|Optional)\[)?(?:Tensor|int|float|bool|number|Device|Generator)"
    r"\]{1,2})"
)
#: Operators of aten with a text among their arguments, which chooses a variant of them.
_WITH_TEXT = frozenset({
    "_assert_async", "_assert_scalar", "_convolution_mode", "_functional_assert_async",
    "_functional_assert_scalar", "_linalg_eigh", "_linalg_svd", "conv1d", "conv2d", "conv3d",
    "div", "div_", "divide", "divide_", "einsum", "gelu", "gelu_", "gelu_backward",
    "index_reduce", "index_reduce_", "linalg_cond", "linalg_eigh", "linalg_eigvalsh",
    "linalg_lstsq", "linalg_matrix_norm", "linalg_norm", "linalg_qr", "linalg_svd",
    "linalg_svdvals", "meshgrid", "nanquantile", "pad", "pad_sequence", "quantile", "scatter",
    "scatter_", "scatter_reduce", "scatter_reduce_", "searchsorted", "segment_reduce", "stft",
    *(f"fft_{i}{r}fft{n}" for i in ("", "i") for r in ("", "r", "h") for n in ("", "2", "n")),
})  # fmt: skip
#: Operators outside aten and prims, which libraries register in Python.
_REGISTERED = {
    "quantized_decomposed": frozenset({
        "choose_qparams", "choose_qparams_per_token", "choose_qparams_per_token_asymmetric",
        "choose_qparams_symmetric", "_choose_qparams_per_token_asymmetric_impl",
        "convert_element_type", "dequantize_per_channel", "dequantize_per_channel_group",
        "dequantize_per_tensor", "dequantize_per_token", "fake_quant_per_channel",
        "quantize_per_channel", "quantize_per_channel_group", "quantize_per_tensor",
        "quantize_per_token",
    }),
    "torchao": frozenset({
        "choose_qparams_affine", "choose_scale_float8", "dequantize_affine",
        "dequantize_affine_float8_non_decomposed", "quantize_affine",
        "quantize_affine_float8_non_decomposed",
    }),
}  # fmt: skip

#: What registers them when it is imported.
_REGISTRARS = {"quantized_decomposed": DECOMPOSED, "torchao": "torchao"}


def registrars(program: bytes) -> list[str]:
    """Modules to import before a checked program can be loaded, by the operators that it names."""
    return [m for name, m in _REGISTRARS.items() if f'"torch.ops.{name}.'.encode() in program]


def is_allowed(target: str) -> bool:
    """Whether a graph may call what it names so (`torch.ops.aten.add.Tensor`)."""
    match target.split("."):
        case ["_operator", name]:
            return name in _PYTHON
        case ["math", name]:
            return name in _MATH
        case ["torch", name]:
            return name in _SYMBOLIC
        case ["torch", "ops", "higher_order", name]:
            return name in _HIGHER_ORDER
        case ["torch", "ops", ("aten" | "prims") as namespace, name, overload]:
            return _computes(namespace, name, overload)
        case ["torch", "ops", namespace, name, overload]:
            return name in _REGISTERED.get(namespace, ()) and overload.isidentifier()
    return False


def _computes(namespace: str, name: str, overload: str) -> bool:
    if not name.isidentifier() or not overload.isidentifier():
        return False
    kinds = operator_arguments(namespace, name, overload)
    if kinds is None:
        return False
    texts = [kind for kind in kinds if kind in ("str", "Optional[str]")]
    rest = [kind for kind in kinds if kind not in ("str", "Optional[str]")]
    return (not texts or name in _WITH_TEXT) and all(_ARGUMENTS.fullmatch(kind) for kind in rest)
