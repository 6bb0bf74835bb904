"""Dagster assets, checks, jobs and schedules; thin: each calls coinstream. One module a system."""
