"""Validate: is a candidate still correct? Parity with the trained model, quality on the test split
with its interval, and quality by group, all through the runtime that would serve it.
"""
