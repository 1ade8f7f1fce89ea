"""Attach and detach containers: the journal's two phases around a turn of the engine.

An attach writes an intent to the journal (the addresses are taken from that moment), waits for the
engine's turn that makes it so, and confirms. Any failure takes the intent back, and the next turn
sweeps whatever part of it was made. A detach takes the record away; the turn removes the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from netloom.agent.addresses import AddressBook
from netloom.agent.engine import Engine
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.desired import Desired, Standing
from netloom.core.ipam.blocks import block_limit
from netloom.core.ipam.configured import limited
from netloom.core.ipam.reserved import reserved
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.core.published import refuse_taken_ports
from netloom.core.resources.node import labels_of
from netloom.kernel import interior
from netloom.model.addr import derived_mac
from netloom.model.attachment import Attached, AttachRequest
from netloom.model.datastore import Store
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig, NetloomError, Unavailable
from netloom.model.fields import nearest
from netloom.model.host import Block, Host
from netloom.model.kernel import Link, Peer
from netloom.model.network import Network
from netloom.model.view import Cluster, Problem
from netloom.reconcile import claims
from netloom.reconcile.loop import Turn

_log = logging.getLogger(__name__)
#: How many blocks one attach may claim before it gives up: one per family is the rule.
MOST_CLAIMS = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What attaching needs of the agent: its picture, its store, its kernel's reader."""

    host_id: str
    cluster: Callable[[], Cluster | None]
    store: Callable[[], Store]
    own_blocks: Callable[[str], tuple[Block, ...]]
    claimed: Callable[[Block], None]
    check_peer: Callable[[Peer], list[str]]


class AttachmentService:
    """``agent.contracts.Attachments`` over journal and engine."""

    def __init__(self, book: AddressBook, engine: Engine, around: Surroundings) -> None:
        self._book = book
        self._engine = engine
        self._around = around

    def attach(self, request: AttachRequest) -> Attached:
        """Attach one container; see the contract."""
        network = self._network(request.network)
        draft = self._draft(network, request)
        endpoint = self._reserve(network, draft, request)
        try:
            refuse_taken_ports(endpoint, self._book.endpoints())
            turn = self._engine.wait(self._engine.wake())
            attached = self._result(endpoint, turn)
            self._book.confirm(endpoint.handle)
        except BaseException:
            self._take_back(endpoint)
            raise
        return attached

    def detach(self, container_id: str, ifname: str, network: str) -> None:
        """Detach one container; see the contract."""
        endpoint = self._book.find(container_id, ifname, network)
        if endpoint is None:
            return
        self._book.release(endpoint.handle)
        number = self._engine.wake()
        try:
            self._engine.wait(number)
        except Unavailable as error:
            # The record is gone, so the engine sweeps the rest when it can: the caller is done.
            _log.warning("detach of %s ends later: %s", endpoint.handle, error)

    def find(self, container_id: str, ifname: str, network: str) -> Attached | None:
        """Return what is attached; see the contract."""
        endpoint = self._book.find(container_id, ifname, network)
        turn = self._engine.turn
        if endpoint is None or turn is None:
            return None
        part = turn.desired.parts.get(endpoint.handle)
        return part.attached if part else None

    def check(self, container_id: str, ifname: str, network: str) -> list[str]:
        """Compare what was attached with what stands; see the contract."""
        endpoint = self._book.find(container_id, ifname, network)
        if endpoint is None:
            return [f"nothing is attached as {ifname} of container {container_id}"]
        desired, plan = self._engine.preview()
        part = desired.parts.get(endpoint.handle)
        standing = desired.standing.get(endpoint.network)
        if part is None or standing is None:
            return [p.text for p in desired.problems] or ["its network does not stand on this host"]
        keys = set(part.objects) | set(standing.attachment.objects) | _shared_keys(desired)
        found = [
            f"{change.verb.value} {change.obj.key}: {change.reason}"
            for change in plan.changes
            if change.obj.key in keys
        ]
        for obj in part.objects.values():
            if isinstance(obj, Link) and obj.peer is not None:
                found += self._around.check_peer(obj.peer)
        return found

    def collect(
        self,
        network: str,
        keep: Collection[tuple[str, str]],
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Endpoint]:
        """Detach what is not in ``keep``; see the contract."""
        kept = set(keep)
        gone = [
            endpoint
            for endpoint in self._book.endpoints()
            if endpoint.network == network
            and (endpoint.container_id, endpoint.ifname) not in kept
            and labels.items() <= endpoint.labels.items()
        ]
        failures: list[NetloomError] = []
        for endpoint in gone:
            try:
                self._book.release(endpoint.handle)
            except NetloomError as error:
                failures.append(error)
        if gone:
            self._engine.wait(self._engine.wake())
        if failures:
            raise failures[0]
        return gone

    def readiness(self, network: str) -> list[Problem]:
        """Return what stands in the way of a next attach; see the contract."""
        subject = f"network {network}"
        try:
            definition = self._network(network)
        except NetloomError as error:
            return [Problem("error", subject, str(error), error.hint)]
        turn = self._engine.turn
        if self._engine.error or turn is None:
            return [self._engine.error or Problem("error", subject, "the agent is starting")]
        found = [p for p in turn.desired.problems if p.subject == subject and p.severity == "error"]
        found += self._exhaustion(definition)
        return found

    def _exhaustion(self, network: Network) -> list[Problem]:
        """Return a problem when the next address could not be dealt."""
        standing = self._standing(network)
        blocks = self._around.own_blocks(network.name)
        limit = block_limit(network.addressing)
        found = []
        for pool in network.pools:
            mine = tuple(b for b in blocks if b.cidr.version == pool.family)
            usages = self._book.usage(self._supply(network, standing, mine)) if mine else ()
            if any(usage.free for usage in usages) or len(mine) < limit:
                continue
            held = ", ".join(str(block.cidr) for block in mine)
            found.append(
                Problem(
                    "error",
                    f"network {network.name}",
                    f"no IPv{pool.family} address is free in {held}",
                    "detach containers, release leaks (netloom ipam check), or use larger blocks",
                )
            )
        return found

    def _network(self, name: str) -> Network:
        cluster = self._around.cluster()
        if cluster is None:
            raise Unavailable(
                "the agent has no picture of the cluster yet", hint="see netloom status"
            )
        if name not in cluster.networks:
            raise InvalidConfig(
                f"network: there is no network {name!r}",
                field="network",
                value=name,
                hint=nearest(name, cluster.networks)
                if cluster.networks
                else "create one: netloom network create",
            )
        return cluster.networks[name]

    def _draft(self, network: Network, request: AttachRequest) -> Endpoint:
        attachment = ATTACHMENTS[network.attachment.type]
        who = (network.name, request.container_id, request.ifname)
        return Endpoint(
            network.name,
            self._around.host_id,
            request.container_id,
            request.ifname,
            request.netns,
            attachment.host_ifname(*who),
            request.mac or derived_mac("endpoint", self._around.host_id, *who),
            (),
            ports=request.ports,
            bandwidth=request.bandwidth,
            labels=request.labels,
            # Raises, naming the path, when it is no network namespace.
            led_out=interior.ways_out(request.netns, request.ifname),
        )

    def _reserve(self, network: Network, draft: Endpoint, request: AttachRequest) -> Endpoint:
        claimed: tuple[Block, ...] = ()
        for _ in range(MOST_CLAIMS):
            standing = self._standing(network)
            blocks = tuple(dict.fromkeys((*self._around.own_blocks(network.name), *claimed)))
            supply = self._supply(network, standing, blocks)
            try:
                return self._book.reserve(draft, supply, request.addresses)
            except NeedBlock as need:
                block = claims.claim_needed(self._around.store(), need)
                self._around.claimed(block)
                claimed = (*claimed, block)
        raise Unavailable(f"network {network.name}: no address after {MOST_CLAIMS} new blocks")

    def _standing(self, network: Network) -> Standing:
        """Return the network as it stands here; a turn is asked for when it is new."""
        turn = self._engine.turn
        if turn is None or network.name not in turn.desired.standing:
            turn = self._engine.wait(self._engine.wake())
        standing = turn.desired.standing.get(network.name)
        if standing is None:
            raise _cannot_stand(network, turn.desired)
        return standing

    def _supply(self, network: Network, standing: Standing, blocks: tuple[Block, ...]) -> Supply:
        cluster = self._around.cluster() or Cluster()
        own = self._around.host_id
        excluded = {block.cidr: standing.excluded(block) for block in blocks}
        labels = labels_of(cluster, cluster.hosts.get(own) or Host(own, own))
        limits = limited(cluster, network)
        return Supply(limits, own, blocks, excluded, reserved(cluster, network), labels)

    def _result(self, endpoint: Endpoint, turn: Turn) -> Attached:
        part = turn.desired.parts.get(endpoint.handle)
        if part is None:
            raise _cannot_stand_endpoint(endpoint, turn.desired)
        for outcome in turn.outcomes:
            if outcome.error is not None and outcome.change.obj.key in part.objects:
                raise outcome.error
        for problem in turn.plan.problems:
            if problem.subject in part.objects:
                raise Conflict(f"{problem.subject}: {problem.text}", hint=problem.remedy)
        return part.attached

    def _take_back(self, endpoint: Endpoint) -> None:
        try:
            self._book.release(endpoint.handle)
            self._engine.wait(self._engine.wake())
        except NetloomError as error:
            _log.warning("taking %s back ends later: %s", endpoint.handle, error)


def _shared_keys(desired: Desired) -> set[str]:
    return {key for key, obj in desired.state.items() if obj.kind_name in ("nft", "sysctl")}


def _cannot_stand(network: Network, desired: Desired) -> NetloomError:
    for problem in desired.problems:
        if problem.subject == f"network {network.name}":
            return InvalidConfig(
                f"network {network.name} cannot stand on this host: {problem.text}",
                field="network",
                value=network.name,
                hint=problem.remedy,
            )
    return Unavailable(f"network {network.name} does not stand on this host yet")


def _cannot_stand_endpoint(endpoint: Endpoint, desired: Desired) -> NetloomError:
    for problem in desired.problems:
        if problem.subject in (f"endpoint {endpoint.handle}", f"network {endpoint.network}"):
            return Conflict(problem.text, hint=problem.remedy)
    return Unavailable(f"{endpoint.handle} was not part of the turn")
