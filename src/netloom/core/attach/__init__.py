"""How a container reaches its host: one module per attachment, listed in one table."""
