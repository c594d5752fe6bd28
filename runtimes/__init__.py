"""Open an artifact and run it: a file for each runtime, `NAME_runtime.py`.

Validation, the benchmark and the served champion go through the same code. It imports nothing of
Hone's other rooms, numpy, and a runtime's own library only where that runtime is opened; so this
room alone is what travels with a model, as the wheel `hone-runtimes`.
"""
