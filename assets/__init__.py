"""Define Dagster assets, checks, jobs and schedules, one module per subsystem. All logic is in coinstream."""

from coinstream.settings import load_plugins

# Plugins add topics and exchanges, which the asset modules read when they are imported.
load_plugins()
