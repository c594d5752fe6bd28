"""The Prefect flow, the engine that runs its steps, and the command line."""
