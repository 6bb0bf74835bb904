"""Define Dagster resources, each of which wraps one part of coinstream."""
