"""Implement exchange protocols, one adapter module or package per exchange."""
