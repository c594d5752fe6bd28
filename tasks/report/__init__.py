"""Human-readable reports of a run's outcome."""
