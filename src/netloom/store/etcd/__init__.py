"""The etcd store: a small client of etcd's v3 JSON gateway behind ``model/datastore.py``.

From the outside in::

    store.py     EtcdStore: the contract
    watch.py     one watch: resumes, joins, says how far it has come
    identity.py  which store this is, and whether its time went back
    gateway.py   calls with failover and tokens; streams
    transport.py connections to one endpoint, each with a time limit
    stream.py    a response that never ends, line by line
    wire.py      keys, entries and transactions as the gateway's JSON
    refusals.py  etcd's errors in our words
    tls.py, certificate.py, url.py   what a datastore URL says

Only the gateway is spoken (HTTP/1.1 and JSON, on by default in etcd 3.4 and later): gRPC would
bring a library of 7 MB that takes longer to import than all the rest, for calls that are few.
"""
