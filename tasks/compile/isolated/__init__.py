"""Targets that are compiled in an isolated environment."""
