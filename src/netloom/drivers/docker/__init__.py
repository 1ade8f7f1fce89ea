"""Docker: its daemon's settings, and what it is told of a host's block."""
