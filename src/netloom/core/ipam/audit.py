"""Compare everything that names an address, and name each thing that does not fit.

Pure: the caller gathers the facts. A finding says what is wrong, who is concerned and the remedy;
an empty answer means that journal, store and live containers agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from netloom.core.ipam.blocks import overlap, within
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, block_order
from netloom.model.keys import host_key, network_key
from netloom.model.view import Cluster, Problem

#: Every kind of finding and what it means, the most serious first.
KINDS: Mapping[str, str] = {
    "duplicate": "one address is held twice",
    "unheld": "a live container has an address that nobody holds",
    "unreadable": "a record of the host's journal cannot be read",
    "leak": "an address is held for a container that is gone",
    "outside": "an address is held outside the blocks of its host",
    "overlap": "two blocks share addresses",
    "orphan-block": "a block belongs to no known host, network or pool",
    "mirror": "the cluster store shows an endpoint that its host does not have",
}


@dataclass(frozen=True, slots=True)
class Live:
    """One interface that exists in a container on this host, with the addresses it really has.

    ``handle`` is the endpoint that it was made for, "" when none is known; then ``place`` (host
    interface or namespace) says where it is.
    """

    handle: str
    network: str
    place: str
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared. ``endpoints`` is this host's journal, ``mirrored`` the store's picture.

    ``live`` are the interfaces found on this host, or None when nobody could look (then leaks and
    unheld addresses are not judged). ``journal`` is False where this host's journal is unknown
    (no agent here): what the store shows is then taken for it. An intent is an attach in progress
    unless it was created before ``intents_before`` (as ``Endpoint.created``): then nobody is
    coming back for it. ``unreadable`` is what the journal's reader complained about, ``unread`` the
    store's keys that cannot be read: whether hosts and networks are there is not judged by them.
    """

    cluster: Cluster
    host_id: str
    endpoints: tuple[Endpoint, ...] = ()
    mirrored: tuple[Endpoint, ...] = ()
    live: tuple[Live, ...] | None = None
    journal: bool = True
    intents_before: str = ""
    unreadable: tuple[Problem, ...] = ()
    unread: Collection[str] = ()


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong. ``handle`` is who holds the address, "" for a block."""

    kind: str
    subject: str
    handle: str
    host: str
    text: str = field(compare=False)
    remedy: str = field(compare=False)


def check(facts: Facts) -> tuple[Finding, ...]:
    """Return every finding, the most serious kind first, then by subject."""
    held = _held(facts)
    findings = [
        *_duplicates(held),
        *(_unreadable(facts.host_id, problem) for problem in facts.unreadable),
        *_outside(facts, held),
        *_blocks(facts.cluster),
        *_orphans(facts),
        *(_mirror(facts) if facts.journal else ()),
        *(_live(facts, facts.live) if facts.live is not None else ()),
    ]
    rank = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: (rank[finding.kind], finding)))


def _held(facts: Facts) -> list[Endpoint]:
    """Return what is held, once each: of this host by its journal, of others by the store."""
    if not facts.journal:
        return list(facts.mirrored)
    return [
        *facts.endpoints,
        *(endpoint for endpoint in facts.mirrored if endpoint.host_id != facts.host_id),
    ]


def _duplicates(held: Iterable[Endpoint]) -> Iterator[Finding]:
    holders: dict[tuple[str, IPAddress], list[Endpoint]] = {}
    for endpoint in held:
        for address in endpoint.addresses:
            holders.setdefault((endpoint.network, address), []).append(endpoint)
    for (network, address), endpoints in holders.items():
        for endpoint in endpoints if len(endpoints) > 1 else ():
            others = ", ".join(
                f"{other.handle} on host {other.host_id}"
                for other in endpoints
                if other is not endpoint
            )
            yield Finding(
                "duplicate",
                str(address),
                endpoint.handle,
                endpoint.host_id,
                f"{address} of network {network} is held by {endpoint.handle} on host "
                f"{endpoint.host_id} and by {others}",
                f"restart one of the containers, or free it there: "
                f"netloom ipam release --handle {endpoint.handle}",
            )


def _unreadable(host_id: str, problem: Problem) -> Finding:
    return Finding(
        "unreadable",
        problem.subject,
        "",
        host_id,
        f"{problem.subject}: {problem.text}",
        problem.remedy,
    )


def _outside(facts: Facts, held: Iterable[Endpoint]) -> Iterator[Finding]:
    own: dict[tuple[str, str], list[IPNetwork]] = {}
    for block in facts.cluster.blocks.values():
        if block.confirmed:
            own.setdefault((block.network, block.host_id), []).append(block.cidr)
    for endpoint in held:
        blocks = own.get((endpoint.network, endpoint.host_id), [])
        for address in endpoint.addresses:
            if any(address in cidr for cidr in blocks):
                continue
            said = ", ".join(str(cidr) for cidr in blocks) or "none"
            yield Finding(
                "outside",
                str(address),
                endpoint.handle,
                endpoint.host_id,
                f"{address} is held by {endpoint.handle}, outside the blocks of host "
                f"{endpoint.host_id} in network {endpoint.network} ({said}): no other host "
                "reaches it",
                "restart the container so that it gets an address of a block of its host",
            )


def _blocks(cluster: Cluster) -> Iterator[Finding]:
    blocks = sorted(cluster.blocks.values(), key=block_order)
    # CIDRs are nested or disjoint, and sorted so a larger one comes before those inside it: what
    # overlaps a block is found among the chain of blocks that is still open around it.
    chain: list[Block] = []
    for block in blocks:
        while chain and not (
            chain[-1].network == block.network and overlap(chain[-1].cidr, block.cidr)
        ):
            chain.pop()
        for outer in chain:
            if outer.confirmed and block.confirmed and block.lender != outer.host_id:
                yield _overlap(outer, block)
        if block.lender and not any(outer.host_id == block.lender for outer in chain):
            yield _unbacked(block)
        chain.append(block)


def _unbacked(loan: Block) -> Finding:
    return Finding(
        "orphan-block",
        str(loan.cidr),
        "",
        loan.host_id,
        f"{loan.cidr.network_address} of network {loan.network} is lent to host {loan.host_id} by "
        f"host {loan.lender}, which holds no block around it",
        "nothing to do: it goes with its container, and until then nobody else gets it",
    )


def _overlap(outer: Block, inner: Block) -> Finding:
    return Finding(
        "overlap",
        str(inner.cidr),
        "",
        inner.host_id,
        f"block {inner.cidr} of host {inner.host_id} lies in block {outer.cidr} of host "
        f"{outer.host_id} (network {inner.network})",
        f"netloom host forget {inner.host_id} or {outer.host_id}, whichever has no containers; it "
        "claims another block when its agent starts again",
    )


def orphans(cluster: Cluster, unread: Collection[str] = ()) -> Mapping[Block, str]:
    """Return the blocks that no network has in a pool, each with the reason, as a part of speech.

    Nobody deals from them. Of a network whose key is among those ``unread`` nothing can be told.
    """
    found = {}
    for block in cluster.blocks.values():
        network = cluster.networks.get(block.network)
        if network is None:
            if network_key(block.network) not in unread:
                found[block] = "belongs to a network that does not exist"
        elif not any(within(block.cidr, pool.cidr) for pool in network.pools):
            found[block] = "lies in no pool of it any more"
    return found


def _orphans(facts: Facts) -> Iterator[Finding]:
    nowhere, hosts = orphans(facts.cluster, facts.unread), facts.cluster.hosts
    for block in facts.cluster.blocks.values():
        remedy = (
            "its host gives it back once it is empty; if that host does not run: "
            f"netloom ipam release --block {block.cidr} --network {block.network}"
        )
        reason = nowhere.get(block, "")
        if block.host_id not in hosts and host_key(block.host_id) not in facts.unread:
            reason = f"belongs to host {block.host_id}, which is not known"
            remedy = f"netloom host forget {block.host_id}, if that host is gone for good"
        if reason:
            text = f"block {block.cidr} of network {block.network} {reason}"
            yield Finding("orphan-block", str(block.cidr), "", block.host_id, text, remedy)


def _mirror(facts: Facts) -> Iterator[Finding]:
    own = {endpoint.handle for endpoint in facts.endpoints}
    for endpoint in facts.mirrored:
        known = endpoint.host_id in facts.cluster.hosts
        if endpoint.host_id == facts.host_id:
            if endpoint.handle in own:
                continue
            text = "which has no record of it"
            remedy = "the agent removes it with its next copy; if it stays, see netloom status"
        elif not known:
            text = "which is not known"
            remedy = f"netloom host forget {endpoint.host_id}"
        else:
            continue
        yield Finding(
            "mirror",
            ", ".join(str(address) for address in endpoint.addresses) or endpoint.handle,
            endpoint.handle,
            endpoint.host_id,
            f"the store shows {endpoint.handle} on host {endpoint.host_id}, {text}",
            remedy,
        )


def _live(facts: Facts, live: Iterable[Live]) -> Iterator[Finding]:
    found = list(live)
    present = {each.handle for each in found if each.handle}
    holder = {
        (endpoint.network, address): endpoint.handle
        for endpoint in facts.endpoints
        for address in endpoint.addresses
    }
    for endpoint in facts.endpoints:
        due = endpoint.attached or endpoint.created < facts.intents_before
        if due and endpoint.handle not in present:
            yield _leak(endpoint)
    pools = {name: network.pools for name, network in facts.cluster.networks.items()}
    for each in found:
        for address in each.addresses:
            if not any(address in pool.cidr for pool in pools.get(each.network, ())):
                continue  # another plugin's or a user's own
            owner = holder.get((each.network, address))
            if owner is None or (each.handle and owner != each.handle):
                yield _unheld(facts, each, address, owner)


def _leak(endpoint: Endpoint) -> Finding:
    addresses = ", ".join(str(address) for address in endpoint.addresses)
    return Finding(
        "leak",
        addresses,
        endpoint.handle,
        endpoint.host_id,
        f"{addresses} is held by {endpoint.handle}, but {endpoint.netns} has no interface "
        f"{endpoint.ifname} of ours",
        f"netloom ipam release --handle {endpoint.handle}",
    )


def _unheld(facts: Facts, each: Live, address: IPAddress, owner: str | None) -> Finding:
    who = each.handle or each.place
    instead = f"{owner} holds it" if owner else "nobody holds it: it may be dealt again"
    return Finding(
        "unheld",
        str(address),
        each.handle,
        facts.host_id,
        f"{address} of network {each.network} is in use by {who}, but {instead}",
        "restart that container",
    )
