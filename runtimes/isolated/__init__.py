"""Environments of their own for runtimes whose packages conflict with Hone's."""
