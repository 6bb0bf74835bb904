"""Dagster assets, checks, jobs and schedules; thin: each calls coinstream. One module a system."""

from coinstream.plugins import load_plugins

# Plugins add topics and exchanges, which the asset modules read when they are imported.
load_plugins()
