"""Isolated environments, for runtimes whose packages conflict with Hone's."""
