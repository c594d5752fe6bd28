"""Benchmark: all candidates of a run against each other, and what the timings say."""
