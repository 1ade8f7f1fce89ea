"""BGP as a plan: which sessions a host holds and what it announces; pure."""
