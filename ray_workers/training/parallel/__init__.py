"""The kinds of parallelism, one file each, and `parallelize.py`, which applies them in order.

*Axis* is one of the device mesh (`data`, `shard`, `tensor`, `pipeline`, `context`); *dim* is one
of a tensor. Nothing here knows Ray: it needs a torch process group and a model.
"""
