"""What each step is asked to do, and what it finds out: a file a stage, plain data with types.

Both sides share these: the layout makes a spec, the step reads it in a worker; the step writes its
facts, later steps and the report read them. Imports pydantic and `recipe` only, so that `hone plan`
answers at once.
"""
