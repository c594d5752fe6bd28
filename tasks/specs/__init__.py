"""What each step is asked to do, and what it finds out: typed plain data, one file per stage.

Both sides share these: the layout creates a spec and the step reads it in a worker; the step writes
its facts, and later steps and the report read them. Imports only pydantic and `recipe`, so that
`hone plan` is fast.
"""
