"""Metrics, lag, health and alerts: what an operator looks at."""
