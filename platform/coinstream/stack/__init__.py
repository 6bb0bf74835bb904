"""`coinstream up`: the broker, Dagster's processes and a first run, owned by one process.

Nothing that is started here outlives its owner, however the owner ends: every child has a guard.
"""
