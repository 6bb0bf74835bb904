"""Run the broker, Dagster's processes and a first run for `coinstream up`, owned by one process.

Each child has a supervisor process that stops it when the owner exits for any reason.
"""
