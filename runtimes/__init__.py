"""Open an artifact and run it: a file for each runtime."""
