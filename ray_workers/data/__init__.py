"""Data: splits, batches, Ray datasets, seeds."""
