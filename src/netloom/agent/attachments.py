"""Attach and detach containers: the journal's two phases around a turn of the engine.

An attach writes an intent to the journal (the addresses are taken from that moment), waits for the
engine's turn that makes it so, and confirms. Any failure takes the intent back, and the next turn
sweeps whatever part of it was made. A detach takes the record away; the turn removes the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from types import MappingProxyType

from netloom.agent.addresses import AddressBook
from netloom.agent.borrowing import Borrowing
from netloom.agent.engine import Engine
from netloom.agent.reserving import Reserving
from netloom.agent.surroundings import Surroundings
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.desired import Desired, Standing
from netloom.core.ipam.blocks import block_limit
from netloom.core.ipam.draining import of_present_size
from netloom.core.ipam.supply import Supply
from netloom.core.published import refuse_taken_ports
from netloom.kernel import interior
from netloom.model.addr import Family, derived_mac
from netloom.model.attachment import Attached, AttachRequest
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig, NetloomError, Unavailable
from netloom.model.fields import nearest
from netloom.model.kernel import Link
from netloom.model.network import Network
from netloom.model.view import Problem
from netloom.reconcile.loop import Turn

_log = logging.getLogger(__name__)


class AttachmentService:
    """``agent.contracts.Attachments`` over journal and engine."""

    def __init__(self, book: AddressBook, engine: Engine, around: Surroundings) -> None:
        self._book = book
        self._engine = engine
        self._around = around
        self._reserving = Reserving(book, around, Borrowing(around.host.id, book))

    def attach(self, request: AttachRequest) -> Attached:
        """Attach one container; see the contract."""
        network = self._network(request.network)
        draft = self._draft(network, request)
        standing = self._standing(network)
        endpoint = self._reserving.reserve(draft, network, standing, request.addresses)
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
        blocks = tuple(b for b in self._around.own_blocks(network.name) if not b.lender)
        supply = self._reserving.supply(network, self._standing(network), blocks)
        found = []
        for family in network.families:
            usages = [each for each in self._book.usage(supply) if each.cidr.version == family]
            if any(usage.free for usage in usages) or _may_claim(supply, family):
                continue
            held = ", ".join(str(usage.cidr) for usage in usages)
            found.append(
                Problem(
                    "error",
                    f"network {network.name}",
                    f"no IPv{family} address is free in {held or 'any block of this host'}",
                    "detach containers, release leaks (netloom ipam check), raise the limit of "
                    "blocks, or use larger ones",
                )
            )
        return found

    def _network(self, name: str) -> Network:
        cluster = self._around.picture_with(name)
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
            self._around.host.id,
            request.container_id,
            request.ifname,
            request.netns,
            attachment.host_ifname(*who),
            request.mac or derived_mac("endpoint", self._around.host.id, *who),
            (),
            ports=request.ports,
            bandwidth=request.bandwidth,
            labels=request.labels,
            # Raises, naming the path, when it is no network namespace.
            led_out=interior.ways_out(request.netns, request.ifname),
        )

    def _standing(self, network: Network) -> Standing:
        """Return the network as it stands here; a turn is asked for when it is new."""
        turn = self._engine.turn
        if turn is None or network.name not in turn.desired.standing:
            turn = self._engine.wait(self._engine.wake())
        standing = turn.desired.standing.get(network.name)
        if standing is None:
            raise _cannot_stand(network, turn.desired)
        return standing

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


def _may_claim(supply: Supply, family: Family) -> bool:
    """Tell whether the host may have one more block of a pool that it deals from."""
    network, limit = supply.network, block_limit(supply.network.addressing)
    return any(
        len(of_present_size(pool, supply.cidrs())) < limit
        for pool in network.pools
        if pool.family == family and supply.deals(pool)
    )


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
