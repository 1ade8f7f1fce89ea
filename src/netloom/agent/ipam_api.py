"""Addresses on the local API: the audit against live containers, and releasing what leaked.

::

    GET  /v1/ipam/audit    {"host", "endpoints": n, "unjudged": [text], "findings": [finding]}
    POST /v1/ipam/release  {"handle": H} or {"ip": A, "network": N or ""}, and {"force": bool}
                           {"released": [endpoint]}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from netloom.agent.addresses import AddressBook
from netloom.agent.contracts import Request, Response, Routes
from netloom.agent.mirror import read_endpoints
from netloom.core.ipam.audit import Facts, Finding, Live, check
from netloom.kernel.far_ends import far_ends
from netloom.model.addr import IPAddress, parse_address
from netloom.model.datastore import Store
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig, Unavailable
from netloom.model.fields import Fields
from netloom.model.view import Cluster
from netloom.reconcile.cluster import unreadable

#: How long an attach may take before its intent counts as left behind.
INTENT_LIMIT = timedelta(minutes=5)


def find_live(endpoints: tuple[Endpoint, ...]) -> tuple[Live, ...]:
    """Return the containers' interfaces that exist on this host, with their real addresses."""
    by_link = {(each.network, each.host_ifname): each for each in endpoints}
    found = []
    for end in far_ends(each.netns for each in endpoints):
        endpoint = by_link.get((end.network, end.host_ifname))
        matches = endpoint is not None and endpoint.ifname == end.ifname
        found.append(
            Live(
                endpoint.handle if endpoint is not None and matches else "",
                end.network,
                f"{end.ifname} in {end.netns} (host side {end.host_ifname})",
                end.addresses,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Audit:
    """Gathers the facts of one host and compares them. ``look`` finds the live interfaces.

    ``copied`` returns when the store shows what the journal has, or after a while.
    """

    host_id: str
    book: AddressBook
    cluster: Callable[[], Cluster | None]
    store: Callable[[], Store]
    look: Callable[[tuple[Endpoint, ...]], tuple[Live, ...]] = find_live
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    copied: Callable[[], None] = lambda: None

    def run(self) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """Return the findings, and what could not be judged, in sentences."""
        unjudged = []
        cluster = self.cluster()
        mirrored: tuple[Endpoint, ...] = ()
        before = self.book.endpoints()
        self.copied()
        try:
            mirrored = read_endpoints(self.store())
        except Unavailable as error:
            unjudged.append(f"what other hosts hold: the cluster store is away ({error})")
        live = self.look(before)
        endpoints = self.book.endpoints()
        live = _steady(live, before, endpoints)
        mirrored = _left(mirrored, self.host_id, before, endpoints)
        if cluster is None:
            unjudged.append("blocks and networks: the agent has no picture of the cluster yet")
        facts = Facts(
            cluster or Cluster(),
            self.host_id,
            endpoints,
            mirrored,
            live,
            intents_before=(self.now() - INTENT_LIMIT).isoformat(timespec="seconds"),
            unreadable=self.book.problems(),
            unread=unreadable(cluster) if cluster else (),
        )
        found = check(facts)
        if cluster is None:
            found = tuple(
                each for each in found if each.kind in ("leak", "duplicate", "unreadable")
            )
        return found, tuple(unjudged)


def routes(book: AddressBook, audit: Audit, detach: Callable[[Endpoint], None]) -> Routes:
    """Return the handlers; ``detach`` takes a container's interface and record away."""

    def get_audit(request: Request) -> Response:
        found, unjudged = audit.run()
        return Response(
            data={
                "host": audit.host_id,
                "endpoints": len(book.endpoints()),
                "unjudged": list(unjudged),
                "findings": [asdict(finding) for finding in found],
            }
        )

    def post_release(request: Request) -> Response:
        handle, force = _wanted(book, request)
        endpoint = book.get(handle)
        if endpoint is None:
            # Not there, or a record that does not parse: nothing of it can be live.
            book.release(handle)
            return Response(data={"released": []})
        if not force and any(each.handle == handle for each in audit.look((endpoint,))):
            raise Conflict(
                f"{handle} is no leak: its container is there ({endpoint.netns})",
                hint="stop the container; to cut it off nevertheless: --force",
            )
        detach(endpoint)
        return Response(data={"released": [endpoint.render()]})

    return {
        ("GET", "/v1/ipam/audit"): get_audit,
        ("POST", "/v1/ipam/release"): post_release,
    }


def _steady(
    live: tuple[Live, ...], before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]
) -> tuple[Live, ...]:
    """Leave out what came or went while we looked: it is neither a leak nor a stranger."""
    old, new = {each.handle for each in before}, {each.handle for each in after}
    stayed = [each for each in live if not each.handle or each.handle in new]
    came = [Live(each.handle, each.network, "", ()) for each in after if each.handle not in old]
    return (*stayed, *came)


def _left(
    mirrored: tuple[Endpoint, ...],
    host_id: str,
    before: tuple[Endpoint, ...],
    after: tuple[Endpoint, ...],
) -> tuple[Endpoint, ...]:
    """Leave out of the mirror what this host gave up while we looked: the next copy lacks it."""
    gone = {each.handle for each in before} - {each.handle for each in after}
    return tuple(e for e in mirrored if e.host_id != host_id or e.handle not in gone)


def _wanted(book: AddressBook, request: Request) -> tuple[str, bool]:
    try:
        document: Any = json.loads(request.body or b"{}")
    except ValueError as error:
        raise InvalidConfig(f"the request is not JSON: {error}") from None
    fields = Fields(document, "")
    handle, text = fields.take_str("handle"), fields.take_str("ip")
    network = fields.take_str("network")
    force = fields.take_bool("force", False)
    fields.done()
    if bool(handle) == bool(text):
        raise InvalidConfig("give either a handle or an ip", field="handle", value=handle)
    if text:
        handle = _holder(book, parse_address(text, "ip"), network)
    return handle, force


def _holder(book: AddressBook, address: IPAddress, network: str) -> str:
    holders = [
        each
        for each in book.endpoints()
        if address in each.addresses and network in ("", each.network)
    ]
    if len(holders) == 1:
        return holders[0].handle
    if not holders:
        raise InvalidConfig(
            f"{address} is not held on this host",
            field="ip",
            value=str(address),
            hint=f"find its holder: netloom ipam show --ip {address}",
        )
    raise InvalidConfig(
        f"{address} is held by {', '.join(each.handle for each in holders)}",
        field="ip",
        value=str(address),
        hint="name one of them: --handle",
    )
