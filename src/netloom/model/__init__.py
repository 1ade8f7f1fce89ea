"""Frozen values, their parsing and their keys.

The bottom layer: it imports nothing of Netloom's and does no I/O. Everything above speaks in these
types. Addresses are ``ipaddress`` objects from here on up; text becomes values in ``model`` only.
"""
