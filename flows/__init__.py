"""Prefect flows that chain the steps, the step runner, and the command line."""
