"""Discrete Fourier transforms of complex numbers as pairs: products with the matrix of their waves.

Definitions and norms: https://docs.pytorch.org/docs/stable/fft.html. The inverse of a short-time
transform adds the frames where they overlap and divides by the sum of the squared windows, as
https://docs.pytorch.org/docs/stable/generated/torch.istft.html does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .pairs import NoRealForm, Op, Pair, packets, pair_of, rule

#: A transform of more numbers than this stays an operator, as does one of a size that isn't known.
_MOST = 2048
#: From this size on, a fast Fourier transform is faster, if the size is a power of two.
_FAST = 1024


def _is_product(count: Any) -> bool:
    """Whether a transform of so many numbers becomes a product."""
    fast = isinstance(count, int) and count >= _FAST and count.bit_count() == 1
    return isinstance(count, int) and count <= _MOST and not fast


def _waves(op: Op, count: int, bins: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each (count, bins)."""

    def make(wave: Callable[[Any], Any]) -> torch.Tensor:
        turns = np.outer(np.arange(count), np.arange(bins)) % count / count
        return torch.from_numpy(wave(2 * np.pi * turns)).to(like.dtype)

    size, shape = f"{count}_{bins}_{str(like.dtype).rpartition('.')[2]}", (count, bins)
    cosines = op.constant(f"cosines_{size}", shape, partial(make, np.cos))
    sines = op.constant(f"sines_{size}", shape, partial(make, np.sin))
    return cosines.to(like), sines.to(like)


def _once_or_twice(op: Op, count: int, like: torch.Tensor) -> torch.Tensor:
    """How often each frequency of a real signal's half spectrum counts, (count // 2 + 1,)."""

    def make() -> torch.Tensor:
        place = torch.arange(count // 2 + 1)
        return torch.where((place == 0) | (2 * place == count), 1.0, 2.0)

    return op.constant(f"twice_{count}", (count // 2 + 1,), make).to(like)


def _scale(norm: str | None, count: int, inverse: bool) -> float:
    """The factor of a transform of so many numbers."""
    if norm == "ortho":
        return float(1 / np.sqrt(count))
    return 1 / count if (norm == "forward") != inverse else 1.0


def _fitted(x: torch.Tensor, count: int, axis: int) -> torch.Tensor:
    """The axis as the last one, cut or filled with zeros to so many numbers."""
    x = x.movedim(axis, -1)
    return x if x.shape[-1] == count else F.pad(x, (0, count - x.shape[-1]))


def _real(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _along(z: Any, axis: int) -> Any:
    return (z.re if isinstance(z, Pair) else z).shape[axis]


def _by_operator(operator: Callable[..., Any], z: Any, n: Any, axis: int, norm: str | None) -> Any:
    """A transform that stays an operator, between real numbers."""
    if n is not None and operator is not torch.fft.irfft:  # OpenVINO does not fill with zeros
        if isinstance(z, Pair):
            z = Pair(*(_fitted(part, n, axis).movedim(-1, axis) for part in (z.re, z.im)))
        else:
            z = _fitted(z, n, axis).movedim(-1, axis)
        n = None
    if isinstance(z, Pair):
        z = torch.view_as_complex(torch.stack([z.re, z.im], -1))
    return operator(z, n, axis, norm)


def _as_pair(z: torch.Tensor) -> Pair:
    parts = torch.view_as_real(z)
    return Pair(parts.select(-1, 0), parts.select(-1, 1))


def _transformed(op: Op, z: Any, n: Any, axis: int, norm: str | None, inverse: bool) -> Pair:
    """Along one axis, of complex or real numbers."""
    count = _along(z, axis) if n is None else n
    if not _is_product(count):
        operator = torch.fft.ifft if inverse else torch.fft.fft
        return _as_pair(_by_operator(operator, z, n, axis, norm))
    parts = [z.re, z.im] if isinstance(z, Pair) else [_real(z)]
    parts = [_fitted(part, count, axis) for part in parts]
    cosines, sines = _waves(op, count, count, parts[0])
    scale = _scale(norm, count, inverse)
    if scale != 1:
        parts = [part * scale for part in parts]
    if not inverse:
        sines = -sines
    re, im = parts[0] @ cosines, parts[0] @ sines
    if len(parts) > 1:
        re, im = re - parts[1] @ sines, im + parts[1] @ cosines
    return Pair(re.movedim(-1, axis), im.movedim(-1, axis))


def _half(op: Op, x: torch.Tensor, n: Any, axis: int, norm: str | None) -> Pair:
    """Of real numbers, up to half of the frequencies."""
    count = x.shape[axis] if n is None else n
    if not _is_product(count):
        return _as_pair(_by_operator(torch.fft.rfft, x, n, axis, norm))
    x = _fitted(_real(x), count, axis)
    cosines, sines = _waves(op, count, count // 2 + 1, x)
    scale = _scale(norm, count, inverse=False)
    if scale != 1:
        x = x * scale
    return Pair((x @ cosines).movedim(-1, axis), -(x @ sines).movedim(-1, axis))


def _whole(op: Op, z: Any, n: Any, axis: int, norm: str | None) -> torch.Tensor:
    """The inverse of `_half`: the other half of the frequencies is conjugate."""
    z = pair_of(z)
    count = 2 * (z.re.shape[axis] - 1) if n is None else n
    if not _is_product(count):
        found: torch.Tensor = _by_operator(torch.fft.irfft, z, n, axis, norm)
        return found
    bins = count // 2 + 1
    re, im = (_fitted(part, bins, axis) for part in (z.re, z.im))
    cosines, sines = _waves(op, count, bins, re)
    factor = _once_or_twice(op, count, re) * _scale(norm, count, inverse=True)
    found = (re * factor) @ cosines.t() - (im * factor) @ sines.t()
    return found.movedim(-1, axis)


@rule(*packets("fft_fft"))
def _fft(op: Op, z: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> Pair:
    return _transformed(op, z, n, dim, norm, inverse=False)


@rule(*packets("fft_ifft"))
def _ifft(op: Op, z: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> Pair:
    return _transformed(op, z, n, dim, norm, inverse=True)


@rule(*packets("fft_rfft"))
def _rfft(op: Op, x: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> Pair:
    return _half(op, x, n, dim, norm)


@rule(*packets("fft_irfft"))
def _irfft(op: Op, z: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> torch.Tensor:
    return _whole(op, z, n, dim, norm)


def _axes(op: Op, z: Any, sizes: Any, dim: Any) -> list[tuple[Any, int]]:
    """Sizes and axes of a transform over several axes, the last one first."""
    if dim is None and "fft2" in str(op):
        dim = [-2, -1]
    if dim is None:
        whole = (z.re if isinstance(z, Pair) else z).ndim
        dim = range(-(whole if sizes is None else len(sizes)), 0)
    sizes = [None] * len(dim) if sizes is None else [None if s == -1 else s for s in sizes]
    return list(zip(sizes, dim, strict=True))[::-1]


@rule(*packets("fft_fft2", "fft_fftn", "fft_ifft2", "fft_ifftn"))
def _fftn(op: Op, z: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    for size, axis in _axes(op, z, s, dim):
        z = _transformed(op, z, size, axis, norm, "ifft" in str(op))
    return z


@rule(*packets("fft_rfft2", "fft_rfftn"))
def _rfftn(op: Op, x: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Pair:
    (size, axis), *others = _axes(op, x, s, dim)
    z = _half(op, x, size, axis, norm)
    for size, axis in others:
        z = _transformed(op, z, size, axis, norm, inverse=False)
    return z


@rule(*packets("fft_irfft2", "fft_irfftn"))
def _irfftn(
    op: Op, z: Any, s: Any = None, dim: Any = None, norm: str | None = None
) -> torch.Tensor:
    (last, end), *others = _axes(op, z, s, dim)
    for size, axis in others:
        z = _transformed(op, z, size, axis, norm, inverse=True)
    return _whole(op, z, last, end, norm)


@rule(*packets("stft"))
def _stft(op: Op, x: Any, *args: Any, **kwargs: Any) -> Pair:
    """Stays an operator, which `spectrums.py` knows: of a real signal only."""
    if isinstance(x, Pair):
        raise NoRealForm(f"{op} of complex numbers")
    return _as_pair(op(x, *args, **kwargs))


@rule(*packets("istft"))
def _istft(
    op: Op,
    z: Pair,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Any = None,
    return_complex: bool = False,
) -> torch.Tensor:
    if return_complex or onesided is False or n_fft > _MOST:
        raise NoRealForm(f"{op} to complex numbers, or of large frames")
    step, size = hop_length or n_fft // 4, win_length or n_fft
    if window is None:
        window = torch.ones(size, dtype=z.re.dtype, device=z.re.device)
    left = (n_fft - size) // 2
    window = F.pad(window, (left, n_fft - size - left))
    one = z.re.ndim == 2
    re, im = (part.unsqueeze(0) if one else part for part in (z.re, z.im))
    cosines, sines = _waves(op, n_fft, n_fft // 2 + 1, re)
    factor = _once_or_twice(op, n_fft, re) * (n_fft**-0.5 if normalized else 1 / n_fft)
    waves = torch.cat([cosines * factor, -sines * factor], 1).t() * window
    signal = F.conv_transpose1d(torch.cat([re, im], 1), waves.unsqueeze(1), stride=step)
    ones = torch.ones_like(re[:1, :1])
    weight = F.conv_transpose1d(ones, (window * window).view(1, 1, -1), stride=step)
    whole = n_fft + step * (re.shape[-1] - 1)
    start = n_fft // 2 if center else 0
    end = whole - start if length is None else start + length
    if isinstance(end, int) and isinstance(whole, int) and end > whole:
        raise NoRealForm(f"{op} of a length beyond its frames")
    found = (signal[..., start:end] / weight[..., start:end]).squeeze(1)
    return found.squeeze(0) if one else found
