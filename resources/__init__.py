"""Dagster resources: what assets and sensors are given. Each wraps one part of coinstream."""
