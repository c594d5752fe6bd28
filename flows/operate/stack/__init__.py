"""The local stack: all the servers of a team on one machine, as `infra/compose.yaml` has them.

`folder.py` says where everything lies, `process.py` starts and ends one service, `services.py` says
what each one is, and `stack.py` brings them up, in the order of what they need, and down.
"""
