"""Code that runs in Ray workers, and what sends it there: cluster, dispatch, store, training loop,
metrics, and the isolated process that runs a compiled model. Imports neither Prefect nor MLflow.
"""
