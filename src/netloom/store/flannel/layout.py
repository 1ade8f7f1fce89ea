"""Where flannel keeps things, where ours stand beside them, and what our keys become there.

Below flannel's prefix, ``/coreos.com/network`` say::

    config                     flannel's configuration           our network's definition
    subnets/10.244.1.0-24      flannel's lease                   a block, and for a host that runs
                                                                 flannel's daemon its record
    netloom/leases/<the same>  which of our hosts has the lease, and whether the claim is pending
    netloom/backend            the backend in use and those that are retiring
    netloom/deleted            the network was deleted by us; without it config is merely missing
    netloom/cluster/…          all else that agents watch: hosts, reservations, further networks

What agents do not watch (liveness, mirrored endpoints) is below ``<prefix>-netloom/``, so that a
container's start wakes no other host. flannel's daemon reads ``config`` and ``subnets/`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from netloom.model import keys
from netloom.model.errors import InvalidConfig
from netloom.model.network import parse_name

DEFAULT_PREFIX = "/coreos.com/network"
DEFAULT_TTL_S = 86400.0
#: A lease that the keeper of the agent's liveness, who looks every ten seconds, can keep alive.
LEAST_TTL_S = 30.0


@dataclass(frozen=True, slots=True)
class Format:
    """What a user chooses of the format; ``network`` is the name of flannel's network with us."""

    prefix: str = DEFAULT_PREFIX
    network: str = "default"
    ttl_s: float = DEFAULT_TTL_S
    ip_masq: bool = True

    def __post_init__(self) -> None:
        """Check the parts. Raises InvalidConfig."""
        if not self.prefix.strip("/") or "\0" in self.prefix:
            raise InvalidConfig(
                f"prefix: {self.prefix!r} names no place in the store",
                field="prefix",
                value=self.prefix,
                hint=f"e.g. {DEFAULT_PREFIX}, flannel's own default",
            )
        parse_name(self.network, "network")
        if not LEAST_TTL_S <= self.ttl_s <= 10 * 365 * 86400:
            raise InvalidConfig(
                f"ttl: {self.ttl_s:g} s is not a lease's life",
                field="ttl",
                value=self.ttl_s,
                hint=f"choose at least {LEAST_TTL_S:g} s; flannel's is {DEFAULT_TTL_S:g} s",
            )

    @property
    def root(self) -> str:
        """The prefix with one slash at each end."""
        return f"/{self.prefix.strip('/')}/"

    @property
    def config(self) -> str:
        """The key of flannel's configuration."""
        return self.root + "config"

    @property
    def subnets(self) -> str:
        """The prefix of flannel's leases."""
        return self.root + "subnets/"

    @property
    def holders(self) -> str:
        """The prefix of what we say beside a lease."""
        return self.root + "netloom/leases/"

    @property
    def backend(self) -> str:
        """The key of the backend in use and those that retire."""
        return self.root + "netloom/backend"

    @property
    def deleted(self) -> str:
        """The key that says that a missing configuration is meant."""
        return self.root + "netloom/deleted"

    @property
    def cluster(self) -> str:
        """The prefix of all else that agents watch."""
        return self.root + "netloom/cluster/"

    @property
    def unwatched(self) -> str:
        """The prefix of what agents do not watch."""
        return f"{self.root[:-1]}-netloom/"

    def is_flannels(self, key: str) -> bool:
        """Tell whether one of our keys has its truth in flannel's: the network and its blocks."""
        return key == keys.network_key(self.network) or key.startswith(self.block_prefix)

    @property
    def block_prefix(self) -> str:
        """The prefix of the network's blocks among our keys."""
        return f"{keys.BLOCKS}{self.network}/"

    def raw(self, key: str) -> str:
        """Return where a key or prefix of ours stands that is not made from flannel's."""
        if key.startswith(keys.CLUSTER):
            return self.cluster + key.removeprefix(keys.CLUSTER)
        if key.startswith(keys.ROOT):
            return self.unwatched + key.removeprefix(keys.ROOT)
        return key

    def ours(self, raw: str) -> str:
        """Return the key of ours that stands at ``raw``."""
        if raw.startswith(self.cluster):
            return keys.CLUSTER + raw.removeprefix(self.cluster)
        if raw.startswith(self.unwatched):
            return keys.ROOT + raw.removeprefix(self.unwatched)
        return raw
