"""Send messages: a pool of idempotent producers that keeps the order of each key and reports every loss."""
