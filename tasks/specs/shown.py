"""Samples as a report shows them."""

from __future__ import annotations

from ...recipe.strict import Strict


class ShownSample(Strict):
    """A sample as a report shows it.

    Attributes:
        picture: A PNG, as base64; None if it is no image.
        text: Else its numbers, or the text that `Data.text` made of it.
    """

    picture: str | None = None
    text: str | None = None
