"""Benchmark: all candidates of a run against each other, and statistics of the timings."""
