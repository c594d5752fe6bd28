"""Code that runs inside Ray workers, and the way there: cluster, dispatch, store, training loop,
metrics, and the isolated process that a compiled model runs in. Knows neither Prefect nor MLflow.
"""
