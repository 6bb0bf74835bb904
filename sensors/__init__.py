"""Dagster sensors. One module a system."""
