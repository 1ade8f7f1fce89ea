"""Figures, compared in the same run with a peer or the bare host; run by ``make bench``."""
