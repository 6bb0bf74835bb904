"""Store, list and replay the messages that could not be handled."""
