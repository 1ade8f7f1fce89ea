"""How hosts reach each other's blocks: one module per backend, listed in one table."""
