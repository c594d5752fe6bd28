"""Validate: is a candidate still right? Parity with the trained model, quality on the test split,
its interval, each group's share. All is measured through the runtime that would serve it.
"""
