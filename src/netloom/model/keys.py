"""Where things are kept in a store.

Cluster store, below ``/netloom/v1``::

    cluster/networks/<name>                       Network
    cluster/hosts/<host id>                       Host
    cluster/blocks/<network>/<address>-<length>   Block, or the loan of an address of one
    cluster/reservations/<network>/<address>-<length>  Reservation
    cluster/resources/<kind>/[<namespace>/]<name>  Resource
    endpoints/<host id>/<network>/<container>/<ifname>  Endpoint, mirrored from the host's journal
    alive/<host id>                               leased; there while the host's agent runs
    guard/networks                                written with every change of a definition
    guard/joins/<network>                         written by a host with its first block's claim
    store                                         the store's own mark, where it keeps one (etcd)

Every agent watches ``cluster/``; ``endpoints/`` and ``alive/`` are read on demand, so that a
container's start wakes no other host.

Host journal (a store of its own, on the host's disk)::

    journal/endpoints/<network>/<container>/<ifname>  Endpoint
    journal/freed/<network>/<address>                 when the address was freed, as a counter
    journal/blocks/<network>/<address>-<length>       blocks as last seen, for times without a store
    journal/lent/<network>/<address>                  who has this address of a block of the host's
    journal/host                                      this host's id
"""

from __future__ import annotations

from netloom.model.addr import IPAddress, IPNetwork, parse_network

ROOT = "/netloom/v1/"
CLUSTER = ROOT + "cluster/"
NETWORKS = CLUSTER + "networks/"
HOSTS = CLUSTER + "hosts/"
BLOCKS = CLUSTER + "blocks/"
RESERVATIONS = CLUSTER + "reservations/"
RESOURCES = CLUSTER + "resources/"
ENDPOINTS = ROOT + "endpoints/"
ALIVE = ROOT + "alive/"
#: Written with every change of a network's definition, by who has checked it against all others:
#: comparing it makes that check hold at the moment of the commit.
NETWORKS_GUARD = ROOT + "guard/networks"
#: Per network, written with the first block that a host claims there: comparing it makes sure that
#: nobody joined meanwhile.
JOINS = ROOT + "guard/joins/"
#: Tells a store from another in the same place; the store's own, no one else sees it.
STORE_MARK = ROOT + "store"
JOURNAL = "journal/"
JOURNAL_ENDPOINTS = "journal/endpoints/"
JOURNAL_FREED = "journal/freed/"
JOURNAL_BLOCKS = "journal/blocks/"
JOURNAL_LENT = "journal/lent/"
JOURNAL_HOST = "journal/host"


def cidr_segment(cidr: IPNetwork) -> str:
    """Render a CIDR as one key segment: ``10.244.1.0-24``."""
    return f"{cidr.network_address}-{cidr.prefixlen}"


def parse_cidr_segment(text: str) -> IPNetwork:
    """Parse what :func:`cidr_segment` renders. Raises InvalidConfig."""
    address, _, length = text.rpartition("-")
    return parse_network(f"{address}/{length}", "key")


def network_key(name: str) -> str:
    """Return the key of a network's definition."""
    return NETWORKS + name


def joins_key(network: str) -> str:
    """Return the key that is written when a host joins a network."""
    return JOINS + network


def host_key(host_id: str) -> str:
    """Return the key of a host's record."""
    return HOSTS + host_id


def alive_key(host_id: str) -> str:
    """Return the leased key that says that a host's agent runs."""
    return ALIVE + host_id


def block_key(network: str, cidr: IPNetwork) -> str:
    """Return the key of a block's claim in the cluster store."""
    return f"{BLOCKS}{network}/{cidr_segment(cidr)}"


def reservation_key(network: str, cidr: IPNetwork) -> str:
    """Return the key of a reservation."""
    return f"{RESERVATIONS}{network}/{cidr_segment(cidr)}"


def resource_key(kind: str, namespace: str, name: str) -> str:
    """Return the key of a resource; ``namespace`` is "" for kinds without one."""
    return f"{RESOURCES}{kind}/{namespace + '/' if namespace else ''}{name}"


def endpoint_key(host_id: str, network: str, container_id: str, ifname: str) -> str:
    """Return the key of an endpoint's mirror in the cluster store."""
    return f"{ENDPOINTS}{host_id}/{network}/{container_id}/{ifname}"


def journal_endpoint_key(network: str, container_id: str, ifname: str) -> str:
    """Return the key of an endpoint in the host's journal."""
    return f"{JOURNAL_ENDPOINTS}{network}/{container_id}/{ifname}"


def journal_freed_key(network: str, address: IPAddress) -> str:
    """Return the key that remembers when an address was freed."""
    return f"{JOURNAL_FREED}{network}/{address}"


def journal_lent_key(network: str, address: IPAddress) -> str:
    """Return the key that says to which host an address is lent."""
    return f"{JOURNAL_LENT}{network}/{address}"


def journal_block_key(network: str, cidr: IPNetwork) -> str:
    """Return the key of a block as the host last saw it."""
    return f"{JOURNAL_BLOCKS}{network}/{cidr_segment(cidr)}"
