"""MLflow: runs, metrics, models and the registry. Nothing else imports it."""
