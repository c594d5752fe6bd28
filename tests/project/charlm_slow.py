"""The bundled character model's data, with a pause before each sample, so that a test can interfere."""

from dataclasses import replace

from prefect_hone.recipe.examples.charlm.charlm_data import charlm_data
from wine_data import Slow


def slow(delay=0.002, length=16, characters=5800):
    data = charlm_data(length, characters)
    return replace(data, train=Slow(data.train, delay))
