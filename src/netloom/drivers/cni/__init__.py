"""The CNI driver: executables in front, parsing and rendering behind the agent's socket."""
