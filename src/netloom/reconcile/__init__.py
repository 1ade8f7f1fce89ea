"""The loop that keeps the kernel true: difference, order, retry, status.

It knows protocols and does no I/O; store, kernel and clock are handed in.
"""
