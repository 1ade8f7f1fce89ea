"""The verbs on resources: get, apply, create, replace, patch, delete, label; as calicoctl has them.

``files`` reads documents, ``editor`` changes the store, ``columns`` and ``printing`` show them.
"""
