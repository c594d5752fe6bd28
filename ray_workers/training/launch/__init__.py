"""Start the workers of a training, monitor them, and restart them."""
