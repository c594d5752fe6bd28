"""The stages of a run: check, train, export, compress, compile, validate, benchmark, decide, track,
promote. A step is a plain function; `tasks/steps.py` lists them.
"""
