"""Models that compute with complex numbers are traced as real ones, and are right on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_graphs import GraphBench
from prefect_hone.ray_workers.model.axes import Varying
from prefect_hone.ray_workers.model.complex_numbers import has_complex
from prefect_hone.ray_workers.model.complex_numbers.pairs import RULES
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.ray_workers.model.tracing import trace
from prefect_hone.recipe.errors import StepFailed
from torch import nn

Complex = torch.Tensor
torch.manual_seed(0)
_W = torch.randn(6, 5, dtype=torch.cfloat)
_V = torch.randn(4, 6, dtype=torch.cfloat)
_AT = torch.tensor([0, 2])
_MASK = torch.rand(4, 6) > 0.5


def _assigned(z: Complex) -> Complex:
    out = torch.zeros(len(z), 4, 8, dtype=torch.cfloat)
    out[:, :, :6] = z * _V
    out[:, 1] = out[:, 2].conj()
    return out


def _under_no_grad(z: Complex) -> Complex:
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        turned = torch.polar(torch.ones(6), torch.arange(6.0))
    return z * turned


#: Of complex numbers (N, 4, 6).
OPERATIONS: dict[str, Callable[[Complex], Any]] = {
    "moves": lambda z: z.transpose(1, 2).reshape(len(z), 2, 12).flip(2)[:, :, 1:7].unsqueeze(1),
    "chunks": lambda z: torch.cat([part * (i + 1) for i, part in enumerate(z.chunk(2, 1))], 2),
    "unbinds": lambda z: torch.stack([z.unbind(1)[0], z.unbind(1)[3].real + 0j], 1),
    "repeats": lambda z: z.repeat(1, 2, 1).roll(1, 2).squeeze().expand(2, -1, -1, -1),
    "picks": lambda z: z[:, _AT] + z.index_select(1, _AT) + z[:, :1],
    "sums": lambda z: z.sum(1) - z.mean((1,)) + z.cumsum(2)[:, 0],
    "adds": lambda z: 2 - (z + 1j) + z.real - (3 + 2j) * z.imag + torch.add(z, z, alpha=2),
    "a real one first": lambda z: 1.5 + z.abs() + 2j + (1 - z),
    "broadcasts": lambda z: z[:, :1] + z.real[:, :, :1] * 1j + torch.ones(4, 1),
    "products": lambda z: (z * _V.real - 2 * z) @ _W + z.imag @ torch.ones(6, 5),
    "one einsum": lambda z: torch.einsum("bij,ij,jk->bik", z, _V, _W),
    "an einsum of one": lambda z: torch.einsum("bij->bji", z),
    "quotients": lambda z: z / _V + z / 2 + 1 / z + z.real / _V + z / z.real + (1 + 2j) / z,
    "powers": lambda z: z**2 + z**-1 + z**0.5 + z ** (1 + 1j) + 2.0**z + z.square(),
    "functions": lambda z: torch.exp(z) + torch.log(z) + torch.sqrt(z) + torch.sgn(z),
    "sizes": lambda z: (z.abs() + torch.linalg.vector_norm(z, dim=1, keepdim=True), z.angle()),
    "conjugates": lambda z: z.conj() * torch.view_as_complex(torch.view_as_real(z)),
    "parts": lambda z: torch.complex(z.imag, z.real) + torch.view_as_real(z).sum(-1),
    "choices": lambda z: torch.where(_MASK, z, z * 2).masked_fill(~_MASK, 1 + 1j),
    "a choice of real ones": lambda z: torch.where(z.real > 0, z, 0.0),
    "assigns": _assigned,
    "puts": lambda z: torch.zeros_like(z).index_add(1, torch.tensor([1, 1, 0, 3]), z),
    "scatters": lambda z: z.slice_scatter(z[:, :2] * 2, 1, 1, 3),
    "pads": lambda z: torch.nn.functional.pad(z, (1, 2)),
    "compares": lambda z: (z == z[:, :1]) | ~torch.isfinite(z) | torch.isnan(z),
    "kinds": lambda z: (z.real.to(torch.cfloat) + z.to(torch.cdouble)).to(torch.cfloat),
    "fills": lambda z: z + torch.full((6,), 2 + 1j) + z.new_ones(4, 1) + torch.ones_like(z),
    "a convolution": lambda z: nn.functional.conv1d(
        z, torch.view_as_complex(torch.ones(3, 4, 2, 2)), torch.ones(3, dtype=torch.cfloat)
    ),
    "a linear layer": lambda z: nn.functional.linear(z, _W.t(), torch.ones(5) * 1j),
    "under no_grad": _under_no_grad,
    "fft": lambda z: torch.fft.fft(z) + torch.fft.ifft(z, norm="ortho"),
    "fft, cut and filled": lambda z: (torch.fft.fft(z, 4, 1), torch.fft.ifft(z, 9, 2, "forward")),
    "rfft": lambda z: torch.fft.rfft(z.real, dim=1) * torch.fft.rfft(z.imag, n=4, dim=1),
    "irfft": lambda z: (torch.fft.irfft(z), torch.fft.irfft(z, 7, 1, "ortho")),
    "fft2": lambda z: torch.fft.fftshift(torch.fft.fft2(z), (1, 2)) + torch.fft.ifft2(z),
    "fftn": lambda z: torch.fft.fftn(z, dim=(1, 2)) * torch.fft.ifftn(z, (4, -1), (1, 2)),
    "rfft2": lambda z: torch.fft.irfft2(torch.fft.rfft2(z.real, norm="ortho") * 2, norm="ortho"),
    "rfftn": lambda z: torch.fft.irfftn(torch.fft.rfftn(z.real, dim=(1, 2)), (4, 6), (1, 2)),
    "fft of integers": lambda z: torch.fft.rfft((z.real * 9).long()),
}  # fmt: skip


class Of(nn.Module):
    """Operations on complex numbers, between real ones."""

    def __init__(self, *operations: Callable[[Complex], Any]) -> None:
        super().__init__()
        self.operations = operations

    def forward(self, x: torch.Tensor) -> Any:
        z = torch.view_as_complex(x)
        found = [operation(z) for operation in self.operations]
        flat = [one for f in found for one in (f if isinstance(f, tuple) else (f,))]
        return tuple(
            torch.view_as_real(f.resolve_conj()) if f.is_complex() else f + 0 for f in flat
        )


def same_with_real_numbers(*operations: Callable[[Complex], Any]) -> Any:
    torch.manual_seed(1)
    model, x = Of(*operations).eval(), torch.randn(3, 4, 6, 2)
    traced = trace(model, {"input": x.numpy()})
    for batch in (x, torch.randn(5, 4, 6, 2)):
        found = traced.program.module()(batch)
        for one, truth in zip(found, model(batch), strict=True):
            torch.testing.assert_close(one, truth, rtol=1e-4, atol=1e-4)
    return traced


@pytest.mark.parametrize("first", range(0, len(OPERATIONS), 8))
def test_operations_compute_the_same_with_real_numbers(first: int) -> None:
    some = list(OPERATIONS.values())[first : first + 8]
    traced = same_with_real_numbers(*some)
    assert not has_complex(traced.program), traced.not_real


def test_a_large_transform_stays_an_operator() -> None:
    def many(z: Complex) -> Complex:
        return torch.fft.irfft(torch.fft.rfft(z.real, 4096) * 1j, 4096)[..., :9]

    traced = same_with_real_numbers(many)
    kinds = {str(node.target) for node in traced.program.graph.nodes}
    assert {"aten.fft_rfft.default", "aten.fft_irfft.default"} <= kinds


def test_each_rule_is_of_an_operator_that_torch_has() -> None:
    assert len(RULES) > 120
    assert all(rule.__module__.startswith("prefect_hone.ray_workers") for rule in RULES.values())


class Rotary(nn.Module):
    """Attention with rotary positions as Llama's authors wrote them, over texts of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.qkv = nn.Embedding(20, 16), nn.Linear(16, 48)
        turns = torch.outer(torch.arange(64.0), 1e4 ** -(torch.arange(0, 8, 2) / 8))
        self.turns = torch.polar(torch.ones_like(turns), turns)  # neither parameter nor buffer

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, length = tokens.shape
        q, k, v = self.qkv(self.embedding(tokens)).view(n, length, 3, 2, 8).unbind(2)
        q, k = self.turned(q), self.turned(k)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turns = self.turns[None, : x.shape[1], None]
        return torch.view_as_real(pairs * turns).flatten(3).type_as(x)


class Fourier(nn.Module):
    """A Fourier neural operator's layer: complex weights on the lowest frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 5, dtype=torch.cfloat) / 3)
        self.mix = nn.Conv1d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.fft.rfft(x)
        out = torch.zeros(len(x), 3, found.shape[-1], dtype=torch.cfloat)
        out[:, :, :5] = torch.einsum("bix,iox->box", found[:, :, :5], self.weight)
        return torch.relu(torch.fft.irfft(out, n=x.shape[-1]) + self.mix(x))


class Denoiser(nn.Module):
    """Sounds of any length, masked in their spectrum, and back."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("window", torch.hann_window(options.get("win_length", 64)))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(wave, 64, 16, window=self.window, return_complex=True, **self.options)
        spectrum = spectrum * torch.sigmoid(spectrum.abs() - 1)
        return torch.istft(spectrum, 64, 16, window=self.window, **self.options)


@pytest.mark.parametrize(
    ("model", "batch", "free"),
    [
        (Rotary(), torch.randint(0, 20, (3, 12)), {1: 30}),
        (Fourier(), torch.randn(3, 3, 24), {}),
        (Denoiser(), torch.randn(3, 320), {1: 480}),
        pytest.param(
            Denoiser(win_length=48, normalized=True),
            torch.randn(3, 320),
            {},
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["rotary", "fourier", "denoiser", "short windows"],
)
def test_both_runtimes_compute_what_torch_does(
    tmp_path: Path, model: nn.Module, batch: torch.Tensor, free: dict[int, int]
) -> None:
    varying = [Varying(input="input", axis=axis, name="length", least=8, most=500) for axis in free]
    graph = to_onnx(model.eval(), trace(model.eval(), {"input": batch.numpy()}, varying))
    bench = GraphBench(tmp_path)
    whole = batch.numpy()
    for size in (None, *free.values()):
        inputs = whole if size is None else np.concatenate([whole] * 3, axis=1)[:2, :size]
        expected = model(torch.from_numpy(inputs)).detach().numpy()
        for target in ("onnxruntime-cpu", "openvino-cpu"):
            served = type(graph)()
            served.CopyFrom(graph)
            assert sqnr_db(expected, bench.served(target, served, inputs)) > 80, (target, size)


def test_complex_parameters_are_split_and_others_keep_their_names() -> None:
    model = Fourier().eval()
    program = trace(model, {"input": torch.randn(3, 3, 24).numpy()}).program
    assert {"weight_real", "weight_imag", "mix.weight", "mix.bias"} <= set(program.state_dict)
    assert model.weight.is_complex()


def test_an_operator_that_is_not_known_is_named_when_a_graph_is_asked_for() -> None:
    model = Of(lambda z: torch.cumprod(z, 1)).eval()
    traced = trace(model, {"input": torch.randn(3, 4, 6, 2).numpy()})
    assert has_complex(traced.program)
    with pytest.raises(StepFailed, match=r"aten\.cumprod\.default of them is not known"):
        to_onnx(model, traced)


def test_a_program_of_real_numbers_can_be_trained() -> None:
    program = trace(Fourier().train(), {"input": torch.randn(3, 3, 24).numpy()}).program
    module = program.module()
    module(torch.randn(2, 3, 24)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_the_gradient_of_no_sound_is_zero() -> None:
    """Where a magnitude is 0 torch's gradient is 0, and that of a written-out root would be NaN."""
    model = Of(lambda z: z.abs())
    x = torch.randn(3, 4, 6, 2)
    x[1] = 0
    program = trace(model.eval(), {"input": x.numpy()}).program
    given = x.clone().requires_grad_()
    program.module()(given)[0].square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert not given.grad[1].any()


def test_a_rule_that_does_not_fit_leaves_the_program_as_it_was() -> None:
    model = Of(lambda z: z.scatter(1, torch.zeros(3, 1, 6, dtype=torch.long), 2.0 + 1j)).eval()
    traced = trace(model, {"input": torch.randn(3, 4, 6, 2).numpy()})
    assert has_complex(traced.program)
    with pytest.raises(StepFailed, match="of them is not known"):
        to_onnx(model, traced)
