"""Sending: a pool of idempotent producers that keeps the order of each key and loses nothing."""
