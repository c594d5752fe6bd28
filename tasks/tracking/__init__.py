"""MLflow: runs, metrics, models and the registry. The only room that knows it."""
