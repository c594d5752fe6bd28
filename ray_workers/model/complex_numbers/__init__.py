"""Programs that compute with complex numbers, as programs of real ones.

Runtimes have no complex tensors: rotary positions as Llama's authors wrote them, Fourier layers and
state space models stop at them. Here each complex value is two real ones, its real and its
imaginary part. `rules.py` says how operators are computed, `fourier.py` has the transforms.
"""

from __future__ import annotations

from .pairs import NoRealForm
from .real_form import has_complex, without_complex

__all__ = ["NoRealForm", "has_complex", "without_complex"]
