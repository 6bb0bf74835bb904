"""Define Dagster sensors, one module per subsystem."""
