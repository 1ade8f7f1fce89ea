"""The composition root: the only place that wires store, kernel and loop together."""
