"""Several hosts on one machine: network namespaces with a real agent in each.

A lab is described by a :class:`~netloom.lab.topology.Topology`, built by ``wiring``, written down
in ``record`` before each step, and taken away by ``teardown`` from nothing but its name. The one
door for callers is :class:`netloom.lab.lab.Lab`; the command line, the demo and the tests use it.

No interface of a lab is ever in the machine's own network namespace, not even for a moment: each
veth pair is created inside a segment's namespace with its other end already in the host's.
"""
