"""Datastores behind one contract (``model/datastore.py``)."""
