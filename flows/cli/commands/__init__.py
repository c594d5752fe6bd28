"""The commands of `hone`, a file for each group."""
