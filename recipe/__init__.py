"""What a user asks for: the schema, loading with errors that name the field, the examples.

Imports nothing heavy (no torch, prefect, ray or mlflow) and nothing from Hone's other rooms. The
public names are in the package `prefect_hone` itself.
"""
