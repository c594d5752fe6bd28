"""Export: which model."""

from __future__ import annotations

from ...recipe.model import ModelFactory
from .base import Spec


class ExportSpec(Spec):
    """Attributes:
    model: The model that the weights belong to.
    """

    model: ModelFactory
