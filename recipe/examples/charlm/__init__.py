"""A character language model: a small GPT on English text that every CPython has."""
