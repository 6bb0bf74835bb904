"""Validate landed messages with Great Expectations."""
