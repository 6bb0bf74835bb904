"""Adapters, one module per exchange."""
