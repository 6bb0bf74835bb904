"""Three extensions of coinstream: a message type, an exchange, a sink."""
