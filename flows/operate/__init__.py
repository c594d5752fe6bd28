"""Running Hone for a team: Prefect blocks."""
