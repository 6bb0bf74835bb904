"""Measure lag and health, export metrics, and send alerts."""
