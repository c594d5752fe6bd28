"""Passes: a file each, named after its kind, with one function `apply(work) -> Result`.

A pass on the graph reads the input `graph` and writes the output `graph`.
"""
