"""Data: formats of splits, the splits themselves, their batches, seeds."""
