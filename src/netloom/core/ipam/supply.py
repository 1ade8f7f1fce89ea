"""What one network's addresses are dealt from on one host, and the choice for one endpoint.

Pure. The choice either names one address per family, or says why not: the user asked for what
cannot be (InvalidConfig), another holds it (Conflict), all is in use (Exhausted), or one more block
would help and is allowed (:class:`NeedBlock`, which the agent answers by claiming one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from netloom.core.ipam.blocks import block_limit, block_of, within
from netloom.core.ipam.draining import draining, of_present_size
from netloom.core.ipam.ledger import Ledger, Usage
from netloom.model.addr import Family, IPAddress, IPNetwork, as_network
from netloom.model.errors import Conflict, Exhausted, InvalidConfig
from netloom.model.host import Block, Reservation
from netloom.model.network import Network
from netloom.model.pool import Pool

#: How many holders an error names before it says "and … more".
_NAMED_HOLDERS = 3


@dataclass(frozen=True, slots=True)
class Supply:
    """A network on this host: its blocks, and what of them is not dealt out by itself.

    ``blocks``: of those handed in, only the host's own confirmed ones of this network that lie in
    its pools count; the first of them is dealt from first. ``excluded`` maps a block's CIDR to the
    addresses that attachment and backend keep for themselves (``excluded(block)`` of both).
    ``labels`` are the host's: pools that are not open to them give no new address, and of a manual
    pool only who asks for one by number gets one.
    """

    network: Network
    host_id: str
    blocks: tuple[Block, ...]
    excluded: Mapping[IPNetwork, frozenset[IPAddress]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    reservations: tuple[Reservation, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def deals(self, pool: Pool) -> bool:
        """Tell whether addresses of ``pool`` are dealt to those who ask for none by number."""
        return pool.open_to(self.labels) and not pool.manual

    def cidrs(self) -> list[IPNetwork]:
        """Return the CIDRs that are dealt from."""
        return [
            block.cidr
            for block in self.blocks
            if block.confirmed
            and block.host_id == self.host_id
            and block.network == self.network.name
            and any(within(block.cidr, pool.cidr) for pool in self.network.pools)
        ]

    def reserved(self) -> list[IPNetwork]:
        """Return what is not dealt by itself.

        Reservations, closed pools, blocks being drained, and loans: each is for one container.
        """
        closed = [pool.cidr for pool in self.network.pools if not self.deals(pool)]
        named = [each.cidr for each in self.reservations if each.network == self.network.name]
        loans = [block.cidr for block in self.blocks if block.lender]
        return [*named, *closed, *loans, *draining(self.network, self.cidrs())]

    def usage(self, ledger: Ledger) -> tuple[Usage, ...]:
        """Count the addresses of each block that is dealt from."""
        reserved = self.reserved()
        return tuple(
            ledger.usage(cidr, self.excluded.get(cidr, ()), reserved) for cidr in self.cidrs()
        )

    def configure(self, ledger: Ledger) -> None:
        """Make ``ledger`` deal from this supply."""
        ledger.configure(
            {cidr: self.excluded.get(cidr, frozenset()) for cidr in self.cidrs()},
            self.reserved(),
        )


class NeedBlock(Exhausted):
    """Every block of the host is full, and the network lets it claim one more.

    ``pools`` are those that one may be claimed from, in order; ``known`` the blocks that are there
    already; ``only``, if set, the very block that holds ``wish``, an address asked for. Whoever
    cannot claim may pass this on: it is an Exhausted that says so.
    """

    def __init__(
        self,
        supply: Supply,
        pools: tuple[Pool, ...],
        *,
        text: str,
        only: IPNetwork | None = None,
        wish: IPAddress | None = None,
    ) -> None:
        super().__init__(text, hint="the host claims one more block as soon as the store is there")
        self.supply = supply
        self.wish = wish
        self.network = supply.network
        self.host_id = supply.host_id
        self.pools = pools
        self.known = tuple(supply.cidrs())
        self.only = only

    @property
    def pool(self) -> Pool:
        """The pool to claim from first."""
        return self.pools[0]


def pick(ledger: Ledger, supply: Supply, wanted: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """Choose one address for each family of the network, IPv4 first; ``ledger`` stays unchanged.

    ``wanted`` addresses are given as asked for, reserved ones too. Raises InvalidConfig, Conflict,
    Exhausted or NeedBlock, as the module says.
    """
    wishes = _by_family(supply.network, wanted)
    chosen: list[IPAddress] = []
    for family in supply.network.families:
        wish = wishes.get(family)
        if wish is not None:
            _check_wish(ledger, supply, wish)
            chosen.append(wish)
            continue
        address = ledger.choose(family)
        if address is None:
            raise _full(ledger, supply, family)
        chosen.append(address)
    return tuple(chosen)


def _by_family(network: Network, wanted: tuple[IPAddress, ...]) -> dict[int, IPAddress]:
    wishes: dict[int, IPAddress] = {}
    for address in wanted:
        if not any(address in pool.cidr for pool in network.pools):
            pools = ", ".join(str(pool.cidr) for pool in network.pools)
            raise InvalidConfig(
                f"{address} is in no pool of network {network.name}",
                field="addresses",
                value=str(address),
                hint=f"choose an address in {pools}",
            )
        if address.version in wishes:
            raise InvalidConfig(
                f"both {wishes[address.version]} and {address} are asked for: an endpoint has one "
                f"IPv{address.version} address",
                field="addresses",
                value=str(address),
                hint="ask for one address of each family",
            )
        wishes[address.version] = address
    return wishes


def _check_wish(ledger: Ledger, supply: Supply, wish: IPAddress) -> None:
    network = supply.network
    pool = next(pool for pool in network.pools if wish in pool.cidr)
    if ledger.holder(wish) is None and not pool.open_to(supply.labels):
        raise Conflict(
            f"{wish} is in pool {pool.cidr} of network {network.name}, which {_closed(pool)}",
            hint="choose an address of another pool, or open this one",
        )
    if ledger.holder(wish) is not None or ledger.owns(wish):
        ledger.want(wish)
        return
    own = _in_pool(supply, pool)
    held = ", ".join(str(cidr) for cidr in own) or "none"
    text = (
        f"{wish} is in no block that this host holds of network {network.name} (it holds: {held})"
    )
    room = len(of_present_size(pool, own)) < block_limit(network.addressing)
    if room or network.addressing.borrowing:
        only = block_of(pool, as_network(wish))
        raise NeedBlock(supply, (pool,), text=text, only=only, wish=wish)
    raise Conflict(
        text,
        hint="choose an address of these blocks, or attach on the host that holds it: "
        f"netloom ipam show --ip {wish}",
    )


def _closed(pool: Pool) -> str:
    if pool.disabled:
        return "is disabled"
    selector = pool.node_selector.text if pool.node_selector else ""
    return f"is for hosts with {selector} alone"


def _full(ledger: Ledger, supply: Supply, family: Family) -> Exhausted:
    network = supply.network
    usages = [usage for usage in supply.usage(ledger) if usage.cidr.version == family]
    said = "; ".join(_describe(ledger, usage) for usage in usages)
    text = (
        f"network {network.name}: no free IPv{family} address on this host: {said}"
        if usages
        else f"network {network.name}: this host has no IPv{family} block yet"
    )
    limit = block_limit(network.addressing)
    pools = [pool for pool in network.pools if pool.family == family and supply.deals(pool)]
    if not pools:
        return Exhausted(
            f"network {network.name}: no IPv{family} pool is open to this host",
            hint="enable one, or let its nodeSelector select this host: `netloom get ippools`",
        )
    room = tuple(pool for pool in pools if len(of_present_size(pool, supply.cidrs())) < limit)
    if room:
        return NeedBlock(supply, room, text=text)
    remedy = "larger blocks (pools[].blockSize) or addressing mode on-demand"
    if network.addressing.mode == "on-demand":
        remedy = (
            f"a higher addressing.maxBlocksPerHost than {limit} (an IPAMConfiguration may set a "
            "lower one for all networks: netloom get ipamconfig default)"
        )
    return Exhausted(
        text, hint=f"free what leaked (netloom ipam check), or give the network {remedy}"
    )


def _describe(ledger: Ledger, usage: Usage) -> str:
    holders = ledger.holders(usage.cidr, _NAMED_HOLDERS)
    more = usage.in_use - len(holders)
    held = ", ".join(holders) + (f" and {more} more" if more > 0 else "")
    withheld = f", {usage.withheld} kept back or reserved" if usage.withheld else ""
    by = f" by {held}" if held else ""
    return f"{usage.cidr} has {usage.in_use} of {usage.total} in use{by}{withheld}"


def _in_pool(supply: Supply, pool: Pool) -> list[IPNetwork]:
    return [cidr for cidr in supply.cidrs() if within(cidr, pool.cidr)]
