"""Addressing: which block a host claims next, which address it deals next, and whether it is true.

Pure. ``reconcile/claims.py`` claims blocks in the cluster store by these rules;
``agent/addresses.py`` deals addresses through the host's journal.
"""
