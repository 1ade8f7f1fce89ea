"""The command line: one verb per module; heavy imports happen inside the verb that needs them."""
