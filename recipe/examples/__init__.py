"""Bundled recipes: each folder is a recipe with its code, to run as it is or to start from."""
