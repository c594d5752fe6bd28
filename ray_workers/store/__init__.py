"""The store of artifacts and of the records of steps."""
