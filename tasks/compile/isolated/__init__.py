"""Targets that are compiled in an environment of their own."""
