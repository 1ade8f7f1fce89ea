"""Releasing by hand: what reports named, as far as it still holds, and single blocks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from netloom.cli import ipam_report
from netloom.cli.client import Client
from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.ipam_text import listed
from netloom.cli.settings import Settings
from netloom.core.ipam.audit import orphans
from netloom.model import keys
from netloom.model.addr import parse_network
from netloom.model.datastore import Delete
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.host import Block
from netloom.reconcile.cluster import unreadable


@dataclass(frozen=True)
class Doomed:
    """What is to be released: holders of leaked addresses, and orphan blocks by CIDR and host."""

    handles: Sequence[str] = ()
    blocks: frozenset[tuple[str, str]] = frozenset()

    def __str__(self) -> str:
        return ", ".join([*self.handles, *(f"block {cidr}" for cidr, _ in sorted(self.blocks))])


@dataclass
class Outcome:
    """What was released, and in sentences what was not."""

    endpoints: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def complain(self) -> None:
        """Raise Conflict if something was refused."""
        if self.refused:
            more = f"; and {len(self.refused) - 3} more" if len(self.refused) > 3 else ""
            raise Conflict(
                f"{len(self.refused)} not released: {'; '.join(self.refused[:3])}{more}",
                hint="they are no leaks (any more); to cut off a container nevertheless: --force",
            )


def of_reports(paths: Sequence[str], client: Client) -> Doomed:
    """Return what reports name, having seen that it can be released here.

    Raises InvalidConfig, Conflict (another host's leaks), Unavailable (no agent releases them).
    """
    reports = {path: ipam_report.read(path) for path in paths}
    ipam_report.refuse_others(reports, client)
    for path, answer in reports.items():
        if not answer["host"]:
            print(f"note: {path}: no agent was there to judge leaks", file=sys.stderr)
    answers = reports.values()
    return Doomed(ipam_report.leaks(answers), ipam_report.orphans(answers))


def release(settings: Settings, client: Client, doomed: Doomed, *, force: bool) -> Outcome:
    """Release what is a leak or an orphan still; what is refused keeps nothing else from it."""
    outcome = Outcome()
    for handle in doomed.handles:
        try:
            answer = client.post("/v1/ipam/release", {"handle": handle, "force": force})
            outcome.endpoints += answer["released"]
        except Conflict as error:
            outcome.refused.append(str(error))
    if doomed.blocks:
        with opened(settings) as cluster:
            _release_orphans(cluster, doomed, outcome)
    return outcome


def _release_orphans(cluster: ClusterStore, doomed: Doomed, outcome: Outcome) -> None:
    for block in orphans(cluster.cluster, unreadable(cluster.cluster)):
        if (str(block.cidr), block.host_id) not in doomed.blocks:
            continue
        try:
            _refuse_used(cluster, block)
            remove(cluster, block)
            outcome.blocks.append(block)
        except Conflict as error:
            outcome.refused.append(str(error))


def named_blocks(cluster: ClusterStore, text: str, network: str) -> list[Block]:
    """Return the block that is meant, if it is there. Raises InvalidConfig where two may be."""
    cidr = parse_network(text, "--block")
    found = [b for b in cluster.blocks_of(network=network) if b.cidr == cidr]
    if len(found) > 1:
        raise InvalidConfig(
            f"networks {listed(sorted(block.network for block in found))} have a block {cidr}",
            field="--block",
            value=text,
            hint="name one of them: --network",
        )
    return found


def refuse(cluster: ClusterStore, block: Block, *, force: bool) -> None:
    """Refuse a block that is in use or, without ``force``, may be so in a moment."""
    _refuse_used(cluster, block)
    if not force:
        _refuse_dealt(cluster, block)


def remove(cluster: ClusterStore, block: Block) -> None:
    """Remove a block that is as it was when it was looked at. Raises Overtaken."""
    key = keys.block_key(block.network, block.cidr)
    cluster.commit([Delete(key)], cluster.unchanged(key))


def _refuse_used(cluster: ClusterStore, block: Block) -> None:
    held = [
        endpoint.handle
        for endpoint in cluster.endpoints
        if endpoint.network == block.network and any(a in block.cidr for a in endpoint.addresses)
    ]
    if held:
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        raise Conflict(
            f"block {block.cidr} is in use by {', '.join(held[:3])}{more}",
            hint="stop these containers first",
        )


def _refuse_dealt(cluster: ClusterStore, block: Block) -> None:
    """Refuse a block that a running agent may deal an address of at this very moment."""
    dealt = block not in orphans(cluster.cluster, unreadable(cluster.cluster))
    if dealt and block.host_id in cluster.alive:
        raise Conflict(
            f"the agent of host {block.host_id} runs and deals addresses of {block.cidr}",
            hint="stop that agent first, or use --force",
        )
