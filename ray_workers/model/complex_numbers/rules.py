"""How operators on complex numbers are computed with real ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch

from .pairs import NoRealForm, Op, Pair, packets, pair_of, rule

_A = torch.ops.aten
_SMALLEST = 1e-38
#: The parts of a complex type.
_REAL = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def _part(value: Any, imaginary: bool) -> Any:
    """The arguments of an operator with one part of each pair."""
    if isinstance(value, Pair):
        return value.im if imaginary else value.re
    if isinstance(value, tuple | list):
        return type(value)(_part(one, imaginary) for one in value)
    return _REAL.get(value, value) if isinstance(value, torch.dtype) else value


def _joined(re: Any, im: Any) -> Any:
    if isinstance(re, torch.Tensor):
        return Pair(re, im)
    return type(re)(Pair(*both) for both in zip(re, im, strict=True))


@rule(
    *packets(
        "alias", "atleast_1d", "avg_pool1d", "avg_pool2d", "broadcast_to", "chunk",
        "clone", "contiguous", "cumsum", "detach", "detach_", "diagonal", "dropout", "embedding",
        "expand", "expand_as", "fft_fftshift", "fft_ifftshift", "flatten", "flip", "gather",
        "index", "index_select", "lift_fresh", "lift_fresh_copy", "masked_select", "mean",
        "movedim", "narrow", "neg", "negative", "nansum", "numpy_T", "permute", "positive", "ravel",
        "repeat", "repeat_interleave", "reshape", "reshape_as", "resolve_conj", "resolve_neg",
        "roll", "rot90", "select", "slice", "split", "split_with_sizes", "squeeze", "sum",
        "swapaxes", "t", "take", "tile", "transpose", "tril", "triu", "unbind", "unflatten",
        "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "view", "view_as", "_unsafe_view",
        "view_copy", "slice_copy", "select_copy", "transpose_copy", "permute_copy", "expand_copy",
        "unsqueeze_copy", "squeeze_copy",
    )
)  # fmt: skip
def _each(op: Op, *args: Any, **kwargs: Any) -> Any:
    """What moves or sums numbers: the same of each part."""
    re, im = (
        op(*_part(args, which), **{k: _part(v, which) for k, v in kwargs.items()})
        for which in (False, True)
    )
    return _joined(re, im)


def _both(*values: Any) -> list[Pair]:
    like = next(v.re for v in values if isinstance(v, Pair))
    return [pair_of(value, like) for value in values]


@rule(*packets("cat", "concat", "concatenate", "stack", "hstack", "vstack"))
def _together(op: Op, tensors: Sequence[Any], *args: Any) -> Pair:
    pairs = _both(*tensors)
    return Pair(op([p.re for p in pairs], *args), op([p.im for p in pairs], *args))


@rule(*packets("slice_scatter", "select_scatter", "diagonal_scatter"))
def _put(op: Op, whole: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
    whole, values = _both(whole, values)
    return Pair(op(whole.re, values.re, *args, **kwargs), op(whole.im, values.im, *args, **kwargs))


@rule(*packets("copy"))
def _copy(_op: Op, whole: Any, values: Any, _without_waiting: bool = False) -> Any:
    """As the exporter writes an assignment; torch can't differentiate its own operator."""
    if not isinstance(whole, Pair):
        return copied(whole, values.re if isinstance(values, Pair) else values)
    values = pair_of(values, whole.re)
    return Pair(copied(whole.re, values.re), copied(whole.im, values.im))


def copied(whole: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values in the shape and type of what they replace."""
    return values.to(whole.dtype).expand(whole.shape)


@rule(*packets("index_put"))
def _put_at(op: Op, whole: Any, at: Any, values: Any, *args: Any) -> Pair:
    whole, values = _both(whole, values)
    return Pair(op(whole.re, at, values.re, *args), op(whole.im, at, values.im, *args))


@rule(*packets("index_add", "index_copy", "scatter", "scatter_add"))
def _put_along(op: Op, whole: Any, axis: int, at: Any, values: Any, **kwargs: Any) -> Pair:
    whole, values = _both(whole, values)
    return Pair(
        op(whole.re, axis, at, values.re, **kwargs),
        op(whole.im, axis, at, values.im, **kwargs),
    )


@rule(*packets("where"))
def _where(_op: Op, condition: Any, one: Any, other: Any) -> Pair:
    one, other = _both(one, other)
    return Pair(torch.where(condition, one.re, other.re), torch.where(condition, one.im, other.im))


@rule(*packets("masked_fill"))
def _masked_fill(_op: Op, whole: Pair, mask: torch.Tensor, value: Any) -> Pair:
    value = pair_of(value, whole.re)
    return Pair(torch.where(mask, value.re, whole.re), torch.where(mask, value.im, whole.im))


@rule(*packets("constant_pad_nd", "pad"))
def _pad(op: Op, whole: Pair, sizes: Any, *args: Any) -> Pair:
    mode = args[:1] if args and isinstance(args[0], str) else ()
    value = args[len(mode)] if len(args) > len(mode) else None
    if value:
        raise NoRealForm(f"{op} with a value")
    return Pair(op(whole.re, sizes, *mode), op(whole.im, sizes, *mode))


@rule(*packets("add", "sub", "rsub"))
def _sum(op: Op, one: Any, other: Any, alpha: Any = 1) -> Pair:
    if isinstance(alpha, complex):
        raise NoRealForm(f"{op} with a complex alpha")
    if op.packet is _A.rsub:
        one, other = other, one
    return _plus(one, other, alpha if op.packet is _A.add else -alpha)


def _plus(one: Any, other: Any, factor: Any = 1) -> Pair:
    """The sum of two values, the second times a number."""
    first, second = _parts_of(one), _parts_of(other)
    re, im = (
        a if b is None else b * factor if a is None else a + (b if factor == 1 else b * factor)
        for a, b in zip(first, second, strict=True)
    )
    if not isinstance(im, torch.Tensor):
        im = torch.full_like(re, im)
    return Pair(*torch.broadcast_tensors(re, im)) if re.shape != im.shape else Pair(re, im)


def _parts_of(value: Any) -> tuple[Any, Any]:
    """The parts of a value or number, None where there is no imaginary one."""
    if isinstance(value, Pair):
        return value.re, value.im
    if isinstance(value, complex):
        return value.real, value.imag
    return value, None


def _products(compute: Callable[..., Any], factors: Sequence[Any]) -> Pair:
    """What is linear in each factor."""
    parts = [_parts_of(factor) for factor in factors]
    re: list[Any] = []
    im: list[Any] = []
    for chosen in product((0, 1), repeat=len(parts)):
        if any(i and p[1] is None for i, p in zip(chosen, parts, strict=True)):
            continue
        if any(isinstance(p[i], float) and not p[i] for i, p in zip(chosen, parts, strict=True)):
            continue  # 1j has no real part
        found = compute(*(p[i] for i, p in zip(chosen, parts, strict=True)))
        power = sum(chosen) % 4
        (im if power % 2 else re).append(-found if power > 1 else found)
    some = (re or im)[0]
    total = [functools.reduce(torch.add, part) if part else torch.zeros_like(some)
             for part in (re, im)]  # fmt: skip
    return Pair(*total)


@rule(*packets("mul", "multiply", "mm", "bmm", "matmul", "mv", "dot", "inner", "outer", "kron"))
def _product(op: Op, one: Any, other: Any) -> Pair:
    return _products(op.packet, (one, other))


@rule(*packets("einsum"))
def _einsum(op: Op, equation: str, factors: Sequence[Any], **kwargs: Any) -> Pair:
    return _products(lambda *parts: op(equation, list(parts), **kwargs), factors)


@rule(*packets("linear"))
def _linear(op: Op, x: Any, weight: Any, bias: Any = None) -> Pair:
    found = _products(op, (x, weight))
    return found if bias is None else _plus(found, bias)


@rule(*packets("addmm", "baddbmm"))
def _addmm(op: Op, bias: Any, one: Any, other: Any, **scales: Any) -> Pair:
    if scales:
        raise NoRealForm(f"{op} with scales")
    return _plus(_products(torch.matmul, (one, other)), bias)


@rule(*packets("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d"))
def _convolution(op: Op, x: Any, weight: Any, bias: Any = None, *args: Any) -> Pair:
    found = _products(lambda *two: op(*two, None, *args), (x, weight))
    if bias is None:
        return found
    shape = [1, -1, *[1] * (found.re.ndim - 2)]
    bias = pair_of(bias)
    return _plus(found, Pair(bias.re.view(shape), bias.im.view(shape)))


@rule(*packets("div", "true_divide", "divide"))
def _quotient(op: Op, one: Any, other: Any, **kwargs: Any) -> Pair:
    if kwargs.get("rounding_mode"):
        raise NoRealForm(f"{op} that rounds")
    re, im = _parts_of(other)
    if im is None:
        return Pair(one.re / re, one.im / re)
    size = re * re + im * im
    return _products(torch.mul, (one, Pair(*_tensors(one, re / size, -im / size))))


def _tensors(like: Any, *numbers: Any) -> list[torch.Tensor]:
    of = like.re if isinstance(like, Pair) else like
    return [n if isinstance(n, torch.Tensor) else torch.full_like(of, n) for n in numbers]


@rule(*packets("reciprocal"))
def _reciprocal(_op: Op, z: Pair) -> Pair:
    size = z.re * z.re + z.im * z.im
    return Pair(z.re / size, -z.im / size)


@rule(*packets("pow", "square"))
def _power(op: Op, z: Any, exponent: Any = 2) -> Pair:
    if isinstance(z, Pair) and isinstance(exponent, int) and 1 <= abs(exponent) <= 4:
        found = functools.reduce(lambda a, b: _products(torch.mul, (a, b)), [z] * abs(exponent))
        return found if exponent > 0 else _reciprocal(op, found)
    if not isinstance(z, Pair) and isinstance(z, torch.Tensor | complex):
        z = pair_of(z, exponent.re if isinstance(exponent, Pair) else exponent)
    if isinstance(z, Pair):
        log = _log(op, z)
    else:
        log = pair_of(float(torch.log(torch.tensor(float(z)))), exponent.re)
    power: Pair = _exp(op, _products(torch.mul, (exponent, log)))
    return power


@rule(*packets("abs", "absolute"))
def _abs(_op: Op, z: Pair) -> torch.Tensor:
    # Where it is 0 the gradient is 0, as torch's is, and not 0/0.
    return torch.sqrt((z.re * z.re + z.im * z.im).clamp(min=_SMALLEST))


@rule(*packets("linalg_vector_norm", "norm"))
def _norm(op: Op, z: Pair, *args: Any, **kwargs: Any) -> Any:
    return op(_abs(op, z), *args, **kwargs)


@rule(*packets("angle"))
def _angle(_op: Op, z: Pair) -> torch.Tensor:
    return torch.atan2(z.im, z.re)


@rule(*packets("exp"))
def _exp(_op: Op, z: Pair) -> Pair:
    size = torch.exp(z.re)
    return Pair(size * torch.cos(z.im), size * torch.sin(z.im))


@rule(*packets("log"))
def _log(op: Op, z: Pair) -> Pair:
    return Pair(torch.log(_abs(op, z)), _angle(op, z))


@rule(*packets("sqrt"))
def _sqrt(op: Op, z: Pair) -> Pair:
    size = _abs(op, z)
    re = torch.sqrt(((size + z.re) / 2).clamp(min=0))
    im = torch.sqrt(((size - z.re) / 2).clamp(min=0))
    return Pair(re, torch.where(z.im < 0, -im, im))


@rule(*packets("sgn"))
def _sign(op: Op, z: Pair) -> Pair:
    size = _abs(op, z)
    return Pair(z.re / size, z.im / size)


@rule(*packets("conj", "_conj", "conj_physical", "_conj_physical"))
def _conjugate(_op: Op, z: Pair) -> Pair:
    return Pair(z.re, -z.im)


@rule(*packets("real"))
def _real(_op: Op, z: Pair) -> torch.Tensor:
    return z.re


@rule(*packets("imag"))
def _imaginary(_op: Op, z: Pair) -> torch.Tensor:
    return z.im


@rule(*packets("_neg_view"))
def _negative(_op: Op, z: Pair) -> Pair:
    return Pair(-z.re, -z.im)


@rule(*packets("view_as_real", "view_as_real_copy"))
def _as_real(_op: Op, z: Pair) -> torch.Tensor:
    return torch.stack([z.re, z.im], -1)


@rule(*packets("view_as_complex", "view_as_complex_copy"))
def _as_complex(_op: Op, x: torch.Tensor) -> Pair:
    return Pair(x.select(-1, 0), x.select(-1, 1))


@rule(*packets("complex"))
def _complex(_op: Op, re: torch.Tensor, im: torch.Tensor) -> Pair:
    return Pair(*torch.broadcast_tensors(re, im))


@rule(*packets("polar"))
def _polar(_op: Op, size: torch.Tensor, angle: torch.Tensor) -> Pair:
    return Pair(size * torch.cos(angle), size * torch.sin(angle))


@rule(*packets("eq", "ne"))
def _equal(op: Op, one: Any, other: Any) -> torch.Tensor:
    one, other = _both(one, other)
    same = (one.re == other.re) & (one.im == other.im)
    return same if op.packet is _A.eq else ~same


@rule(*packets("isfinite", "isnan", "isinf"))
def _special(op: Op, z: Pair) -> torch.Tensor:
    re, im = (op.packet(part) for part in (z.re, z.im))
    return re & im if op.packet is _A.isfinite else re | im


@rule(*packets("sym_size", "size", "numel", "sym_numel"))
def _size(op: Op, z: Pair, *args: Any) -> Any:
    return op(z.re, *args)


@rule(*packets("to", "_to_copy", "type_as"))
def _converted(op: Op, x: Any, *args: Any, **kwargs: Any) -> Any:
    given = [*args, *kwargs.values()]
    like = next((g for g in given if isinstance(g, torch.Tensor | Pair)), None)
    wanted = next((g for g in given if isinstance(g, torch.dtype)), None)
    if like is not None:
        kind = torch.complex64 if isinstance(like, Pair) else like.dtype
        part = like.re.dtype if isinstance(like, Pair) else like.dtype
    elif wanted is not None:
        kind, part = wanted, _REAL.get(wanted, wanted)
    else:
        kind = torch.complex64 if isinstance(x, Pair) else x.dtype
        part = x.re.dtype if isinstance(x, Pair) else x.dtype
    found = pair_of(x)
    if not kind.is_complex:
        return found.re.to(part)
    re = found.re.to(part)
    return Pair(re, found.im.to(part) if isinstance(x, Pair) else torch.zeros_like(re))


@rule(
    *packets(
        "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like",
        "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor", "eye", "empty_strided",
    )
)  # fmt: skip
def _filled(op: Op, *args: Any, **kwargs: Any) -> Any:
    """Constants: the imaginary part is zero, unless they are filled with a complex number."""
    wanted = kwargs.get("dtype")
    value = next((a for a in args if isinstance(a, complex)), None)
    whole = next((a for a in args if isinstance(a, Pair)), None)
    if wanted is None and whole is None and value is None:
        raise NoRealForm(f"{op} without a type")
    part = _REAL.get(wanted, wanted)
    if part is None:
        part = whole.re.dtype if whole is not None else torch.get_default_dtype()
    args = tuple(a.real if isinstance(a, complex) else _part(a, False) for a in args)
    re = op(*args, **{**kwargs, "dtype": part})
    if wanted is not None and not wanted.is_complex:
        return re
    return Pair(re, torch.zeros_like(re) if value is None else torch.full_like(re, value.imag))
