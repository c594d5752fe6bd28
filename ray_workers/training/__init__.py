"""The training loop and its parts. The loop knows neither Prefect nor MLflow nor Ray: it runs
under torchrun (`python -m prefect_hone.ray_workers.training`) as well as under Ray Train.
"""
