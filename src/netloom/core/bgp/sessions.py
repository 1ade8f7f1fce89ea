"""The sessions of one host: with other hosts, by mesh or by resource, and with routers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from netloom.core.bgp.misnamed import misnamed
from netloom.core.bgp.passwords import password
from netloom.core.bgp.peerings import (
    Pairing,
    is_for,
    pairing,
    rank,
    routers,
    subject,
)
from netloom.core.bgp.session import Session, session_name
from netloom.core.bgp.speakers import CONFIGURATION, Settings, Speaker
from netloom.core.resources.bgp import BgpPeer
from netloom.core.resources.bgp_filter import BgpFilter, parse_filter
from netloom.core.resources.values import BGP_PORT
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.secret import Secret
from netloom.model.view import Problem, View

FILTER = "BGPFilter"


@dataclass(slots=True)
class Table:
    """What the sessions of a host are made of; ``problems`` gathers what cannot be.

    ``others`` are the hosts that speak BGP for a network of ours, by family. ``ranges`` are, by
    family, those that hosts take from each other.
    """

    view: View
    settings: Settings
    own: Speaker
    others: Mapping[Family, tuple[Speaker, ...]]
    peers: tuple[BgpPeer, ...]
    ranges: Mapping[Family, tuple[IPNetwork, ...]]
    problems: list[Problem] = field(default_factory=list)

    def sessions(self) -> tuple[Session, ...]:
        """Return all sessions: by family, those with hosts before those with routers."""
        found = []
        for family in self._families():
            with_routers = tuple(self._with_routers(family))
            for session in self._with_hosts(family):
                transit = bool(with_routers or self.own.cluster_id)
                found.append(replace(session, transit=transit))
            found += with_routers
        self._say_misnamed()
        self._say_without_underlay()
        self._say_alone(found)
        return tuple(found)

    def _families(self) -> list[Family]:
        """Return the families in which to speak: not from an address that another host had first.

        Its neighbours would take us for that host. Why not is told where the address is (agent).
        """
        return [f for f in sorted(self.view.facts.underlay) if self.own.host.contests(f) is None]

    def _with_hosts(self, family: Family) -> Iterator[Session]:
        local = self.view.facts.underlay[family][1].ip
        for other in self.others[family]:
            address = other.host.underlay(family)
            if address is None or address == local:
                continue
            paired = pairing(self.peers, self.own, other, family)
            if paired is not None:
                session = self._paired(paired, other, address)
            elif self.own.mesh and other.mesh:
                session = self._meshed(other, address)
            else:
                continue
            if session is not None:
                yield replace(session, client=self._is_client(session, other.cluster_id))

    def _meshed(self, other: Speaker, address: IPAddress) -> Session | None:
        default = self.settings.default
        place = (f"{CONFIGURATION}(default)", "spec.nodeMeshPassword")
        text = self._password(default.mesh_password, *place)
        if text is None:
            return None
        restart_s = self.settings.of(self.own.host.name).mesh_max_restart_s
        return replace(
            self._between(other, address),
            name=session_name("Mesh_", address),
            password=text,
            restart_s=restart_s,
        )

    def _paired(self, paired: Pairing, other: Speaker, address: IPAddress) -> Session | None:
        peer = paired.peer
        text = self._password(peer.password, subject(peer), "spec.password")
        if text is None:
            return None
        local = peer.local_as if paired.here else None
        remote = peer.local_as if paired.there else None
        session = replace(
            self._between(other, address),
            name=session_name(_prefix(peer), address),
            password=text,
            local_as=local,
            remote_as=remote or other.as_number,
        )
        return self._shaped(session, peer) if paired.here else _timed(session, peer)

    def _between(self, other: Speaker, address: IPAddress) -> Session:
        """Return the session of two hosts: of the two, the one with the larger address opens it.

        By number, not by spelling: two hosts that compared texts could both wait.
        """
        family = address.version
        local = self.view.facts.underlay[family][1].ip
        passive = int(address) > int(local)
        accepts = self.ranges.get(family, ())
        return Session("", local, address, other.as_number, accepts, passive, port=other.port)

    def _is_client(self, session: Session, cluster_id: IPAddress | None) -> bool:
        """Tell whether routes are reflected to the neighbour: not to one of the same cluster."""
        local = session.local_as or self.own.as_number
        own = self.own.cluster_id
        return own is not None and session.remote_as == local and cluster_id != own

    def _with_routers(self, family: Family) -> Iterator[Session]:
        hosts = self._addresses()
        decided: dict[tuple[IPAddress, int], BgpPeer] = {}
        for peer in routers(self.peers, self.own, hosts):
            assert peer.address is not None
            if peer.address.version != family:
                continue
            first = decided.setdefault(_place(peer), peer)
            if first is not peer:
                if rank(first) == rank(peer) and replace(first, name=peer.name) != peer:
                    self._say(
                        peer,
                        f"spec.peerIP: {subject(first)} asks for the session with "
                        f"{peer.address} too, and decides",
                        "delete one of the two",
                        "warning",
                    )
                continue
            session = self._with_router(peer, family)
            if session is not None:
                yield session

    def _with_router(self, peer: BgpPeer, family: Family) -> Session | None:
        assert peer.address is not None
        assert peer.as_number is not None
        text = self._password(peer.password, subject(peer), "spec.password")
        if text is None:
            return None
        local = self.view.facts.underlay[family][1].ip
        others = [other for other in self.others[family] if other.host != self.own.host]
        direct = [o for o in others if any(_same_router(p, peer, o) for p in self.peers)]
        session = Session(
            session_name(_prefix(peer), *_place(peer)),
            local if peer.use_node_address else None,
            peer.address,
            peer.as_number,
            self.ranges.get(family, ()),
            password=text,
            router=True,
            port=_place(peer)[1],
            local_as=peer.local_as,
            transit=len(direct) < len(others),
            direct=tuple(a for o in direct if (a := o.host.underlay(family)) is not None),
        )
        if not session.transit:
            session = replace(session, direct=())
        session = self._shaped(session, peer)
        client = self._is_client(session, None)
        return replace(session, client=client, transit=session.transit or client)

    def _shaped(self, session: Session, peer: BgpPeer) -> Session:
        return replace(
            _timed(session, peer),
            next_hop=peer.next_hop,
            allowed_local_as=peer.allowed_local_as,
            filters=tuple(self._filter(peer, i) for i in range(len(peer.filters))),
            reachable_by=peer.reachable_by,
        )

    def _filter(self, peer: BgpPeer, place: int) -> BgpFilter | None:
        """Return a filter, or None, which lets nothing pass, when it cannot be had."""
        name = peer.filters[place]
        resource = self.view.cluster.resources.get((FILTER, "", name))
        try:
            if resource is not None:
                return parse_filter(resource)
            text, hint = f"there is no {FILTER}({name})", "create it, or take its name out"
        except InvalidConfig as error:
            text, hint = f"{FILTER}({name}) cannot be read: {error}", error.hint
        self._say(peer, f"spec.filters[{place}]: {text}; nothing passes until it is", hint)
        return None

    def _addresses(self) -> dict[IPAddress, Speaker]:
        """Return whose address is whose, of all hosts; other cards' of this host included."""
        found = {interface.ip: self.own for _, interface, _ in self.view.facts.candidates}
        found |= {each[1].ip: self.own for each in self.view.facts.underlay.values()}
        cluster = self.view.cluster
        for host_id in sorted(cluster.hosts.keys() - {self.own.host.id}):
            speaker = self.settings.speaker(cluster, cluster.hosts[host_id])
            for address in (speaker.host.underlay4, speaker.host.underlay6):
                if address is not None:
                    found.setdefault(address, speaker)
        return found

    def _password(self, secret: Secret | None, subject: str, field: str) -> str | None:
        found = password(secret, self.view.secrets, subject, field)
        if found.problem is not None:
            self.problems.append(found.problem)
        return found.text

    def _say_misnamed(self) -> None:
        """Say which peers name a host of ours that is not as they have it."""
        hosts = self._addresses() if any(peer.address for peer in self.peers) else {}
        for peer in self.peers:
            named = hosts.get(peer.address) if peer.address else None
            if named is None or not (named is self.own or is_for(peer, self.own)):
                continue
            if error := misnamed(peer, named):
                self._say(peer, str(error), error.hint)

    def _say_without_underlay(self) -> None:
        for peer in routers(self.peers, self.own, {}):
            assert peer.address is not None
            family = peer.address.version
            if family not in self.view.facts.underlay:
                self._say(
                    peer,
                    f"spec.peerIP: this host has no IPv{family} underlay address to peer with "
                    f"{peer.address} from",
                    "give it one, or let the peer be for other hosts (nodeSelector)",
                )

    def _say_alone(self, found: list[Session]) -> None:
        """Say where no session is asked for. One that was left out has been said already."""
        served = {session.neighbour.version for session in found}
        why, hint = "no other host is in the mesh", "write a BGPPeer for this host"
        if self.own.cluster_id is not None:
            why = "as a route reflector it has left the mesh"
        elif not self.own.mesh:
            why = "nodeToNodeMeshEnabled is false"
            hint += ", or set it to true in BGPConfiguration(default)"
        for family in self._families():
            others = self.others.get(family, ())
            alone = family not in served and any(o.host.id != self.own.host.id for o in others)
            if alone and not self.problems:
                text = (
                    f"this host has no IPv{family} session: {why} and no BGPPeer is for it, so no "
                    "other host reaches its containers"
                )
                self.problems.append(Problem("warning", "bgp", text, hint))

    def _say(self, peer: BgpPeer, text: str, hint: str, severity: str = "error") -> None:
        self.problems.append(Problem(severity, subject(peer), text, hint))


def _prefix(peer: BgpPeer) -> str:
    return "Node_" if peer.node or peer.node_selector else "Global_"


def _timed(session: Session, peer: BgpPeer) -> Session:
    """Return the session with what both of its sides have to agree about."""
    return replace(
        session,
        keepalive_s=peer.keepalive_s,
        restart_s=peer.max_restart_s,
        hops=peer.ttl_security or 0,
    )


def _same_router(peer: BgpPeer, router: BgpPeer, speaker: Speaker) -> bool:
    return peer.address is not None and _place(peer) == _place(router) and is_for(peer, speaker)


def _place(peer: BgpPeer) -> tuple[IPAddress, int]:
    assert peer.address is not None
    return peer.address, peer.port or BGP_PORT
