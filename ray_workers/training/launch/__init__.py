"""Start the workers of a training, watch them, and start them again."""
