"""The pure heart: addresses, backends, attachments, desired state.

Standard library only; no clock, no socket, no log. Functions return reasons,
they do not write them.
"""
