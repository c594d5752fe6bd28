"""Where artifacts and the records of steps are kept."""
