"""Interoperation with FRR, GoBGP and a second BIRD, none of which was written here."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.kernel.commands import find
from netloom.lab.host import LabContainer
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from . import routers
from .bgp_lab import another_bird, bird, bird_pid, bird_routes, routes, ttl_of
from .test_bgp_resources import apply, peers_of, problems, resource, secret

LabUp = Callable[..., Lab]
PROGRAMS = {"frr": "/usr/lib/frr/bgpd", "gobgp": "gobgpd", "bird": "bird"}


@pytest.fixture(params=sorted(PROGRAMS))
def name(request: pytest.FixtureRequest) -> str:
    program = PROGRAMS[request.param]
    if not (Path(program).exists() or find(program)):
        pytest.skip(f"{program} is not installed: run scripts/setup")
    return str(request.param)


def neighbours(lab: Lab) -> list[str]:
    return [str(a.ip) for host in lab.hosts for c in host.node.interfaces for a in c.addresses]


def peers(as_number: int, **more: object) -> list[dict[str, Any]]:
    """Return a BGPPeer of all hosts for each of the router's addresses."""
    return [
        resource("BGPPeer", f"tor{at}", peerIP=each, asNumber=as_number, **more)
        for at, each in enumerate(routers.ADDRESSES)
    ]


def wait_sessions(lab: Lab, up: bool = True) -> None:
    """Wait until all hosts have their sessions with the router, or none has."""
    wanted = set(routers.ADDRESSES) if up else set()
    for host in lab.hosts:
        wait_until(
            lambda: set(peers_of(host)).intersection(routers.ADDRESSES) == wanted,  # noqa: B023
            deadline_s=120,
            what=f"the sessions of {host.name} with the router",
        )


def wait_reached(router: routers.Router, box: Place, container: LabContainer) -> None:
    """Wait until ``box`` reaches the container from behind the router, in both families."""

    def reached(address: str) -> bool:
        router.follow()
        return box.pings(address)

    for address in container.addresses:
        wait_until(lambda: reached(address), deadline_s=120, what=f"an answer of {address}")  # noqa: B023


def test_containers_are_reached_from_behind_a_router_and_reach_there(
    lab_up: LabUp, tmp_path: Path, name: str
) -> None:
    """Another AS, both families, no address translation; the mesh stays as it is.

    A host's BIRD is killed, and nothing is lost from behind. Then the router is killed and comes
    again: sessions and ways do too, and the hosts miss nothing.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    a, b = first.run("a"), second.run("b")
    box, folder = lab.node("box"), tmp_path / "tor"
    apply(first, *peers(65000))
    wanted = routers.Wanted(65000, neighbours(lab))
    with routers.running(name, lab.node("tor"), folder, wanted) as router:
        wait_sessions(lab)
        for container in (a, b):
            wait_reached(router, box, container)
            for address, out in zip(container.addresses, routers.BOX, strict=True):
                assert ttl_of(box.exec(["ping", "-c1", address])) == 62
                assert ttl_of(container.exec(["ping", "-c1", out])) == 62
        types = {"global", "node-to-node mesh"}
        wait_until(lambda: set(peers_of(first).values()) == types, deadline_s=120, what="the mesh")
        with Pings(box, a.address, 0.005) as from_behind:
            pid = bird_pid(first)
            bird(first).signal(signal.SIGKILL)
            wait_until(lambda: another_bird(first, pid), deadline_s=120, what="another BIRD")
            wait_sessions(lab)
            wait_reached(router, box, a)
        # FRR says in its first two minutes that it restarts itself, and for the routes of one that
        # does nobody waits (RFC 4724, 4.1): those to it are missing until the session is up again.
        assert from_behind.lost == 0 or name == "frr"
        with Pings(a, b.address, 0.005) as between:
            router.kill()
            wait_sessions(lab, up=False)
            c = second.run("c")  # a dead router delays nobody
            assert ttl_of(a.exec(["ping", "-c1", c.address])) == 62
            router.start()
            wait_sessions(lab)
            wait_reached(router, box, c)
        assert between.lost == 0


def test_a_router_reflects_what_hosts_without_a_mesh_tell_it(
    lab_up: LabUp, tmp_path: Path, name: str
) -> None:
    """Blocks of both families; each host leads straight to the other, not by way of the router.

    The reflector is killed and comes again: what the hosts know stays (RFC 4724), no ping is lost.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    a, b = first.run("a"), second.run("b")
    off = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    apply(first, off, *peers(routers.HOSTS_AS))
    wanted = routers.Wanted(routers.HOSTS_AS, neighbours(lab))
    with routers.running(name, lab.node("tor"), tmp_path / "tor", wanted) as router:
        wait_sessions(lab)
        tops = set(routers.ADDRESSES)
        wait_until(lambda: set(peers_of(first)) == tops, deadline_s=120, what="the mesh's end")
        for address in b.addresses:
            wait_until(lambda: a.pings(address), deadline_s=120, what=address)  # noqa: B023
        ways = [f"via {second.underlay} ", "via fd26::101 "]
        for words, way in zip(((), ("-6",)), ways, strict=True):
            assert any(way in line for line in bird_routes(first, *words))
        with Pings(a, b.address, 0.005) as there, Pings(b, a.addresses[1], 0.005) as back:
            router.kill()
            wait_sessions(lab, up=False)
            router.start()
            wait_sessions(lab)
            c = second.run("c")
            wait_until(lambda: a.pings(c.address), deadline_s=120, what="a new container")
        assert (there.lost, back.lost) == (0, 0)


def test_filters_say_what_a_router_tells_and_hears(lab_up: LabUp, tmp_path: Path) -> None:
    """By default its default route is taken; a filter refuses it, and keeps a block from it.

    What would lead packets of the host's own segment or blocks to the router is never taken.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    for host in lab.hosts:
        host.run("a")
    tor, segment = lab.node("tor"), "192.168.26.0/25"
    inside = first.blocks()[0].replace("/26", "/30")
    for cidr in ("default", segment, inside, f"{second.underlay}/32"):
        tor.exec(["ip", "route", "add", cidr, "via", routers.BOX[0], "proto", "static"])
    apply(first, *peers(65000))
    wanted = routers.Wanted(65000, neighbours(lab), more="source = RTS_INHERIT")
    with routers.running("bird", tor, tmp_path / "tor", wanted):
        wait_sessions(lab)
        default = f"default via {routers.ADDRESSES[0]} dev ens32 proto bird"
        for host in lab.hosts:
            wait_until(lambda: default in routes(host), deadline_s=120, what="it")  # noqa: B023
            assert not any(segment in line for line in routes(host))
            assert f"{second.underlay} via" not in "\n".join(routes(host))
        assert not any(inside in line for line in routes(first))
        block = first.blocks()[0]
        wait_until(lambda: block in tor.exec(["ip", "route"]), deadline_s=120, what="the block")
        refuse = {"action": "Reject", "matchOperator": "Equal"}
        apply(
            first,
            resource(
                "BGPFilter",
                "rack",
                importV4=[{**refuse, "cidr": "0.0.0.0/0"}],
                exportV4=[{**refuse, "cidr": block}],
            ),
            *peers(65000, filters=["rack"]),
        )
        for host in lab.hosts:
            wait_until(lambda: default not in routes(host), deadline_s=120, what="it")  # noqa: B023
        wait_until(lambda: block not in tor.exec(["ip", "route"]), deadline_s=120, what="no block")
        other = second.blocks()[0]
        wait_until(lambda: other in tor.exec(["ip", "route"]), deadline_s=120, what="the other's")


def test_a_default_route_of_the_hosts_own_stays(lab_up: LabUp, tmp_path: Path) -> None:
    """A router tells another one: BIRD neither takes the place nor complains that it is taken."""
    lab = lab_up(routers.rack(1))
    (host,) = lab.hosts
    host.run("a")
    host.exec(["ip", "route", "add", "default", "via", "192.168.26.254"])
    tor = lab.node("tor")
    tor.exec(["ip", "route", "add", "default", "via", routers.BOX[0], "proto", "static"])
    apply(host, *peers(65000))
    wanted = routers.Wanted(65000, neighbours(lab), more="source = RTS_INHERIT")
    with routers.running("bird", tor, tmp_path / "tor", wanted):
        wait_sessions(lab)
        wait_until(
            lambda: any("172.31.0.0/24 via" in line for line in routes(host)),
            deadline_s=120,
            what="the router's other route",
        )
        assert [line for line in routes(host) if line.startswith("default")] == [
            "default via 192.168.26.254 dev ens32"
        ]
        log = host.home.directory / "run" / "bird" / "bird.log"
        assert not log.exists() or "exists" not in log.read_text()


def test_a_password_with_odd_signs_means_the_same_to_both_sides(
    lab_up: LabUp, tmp_path: Path
) -> None:
    """FRR reads it by its own rules. Another one keeps the session down, and the status says so."""
    wanted = routers.rack(1)
    wanted["hosts"][0]["agent"] = {"secretsDir": str(tmp_path / "secrets")}
    lab = lab_up(wanted)
    (host,) = lab.hosts
    host.run("a")
    text = r"it's\a{secret};$/*"
    secret(tmp_path / "secrets" / "rack7" / "tor", text)
    reference = {"secretKeyRef": {"name": "rack7", "key": "tor"}}
    apply(host, *peers(65000, password=reference))
    router = routers.Wanted(65000, neighbours(lab), text)
    with routers.running("frr", lab.node("tor"), tmp_path / "tor", router):
        wait_sessions(lab)
    router = routers.Wanted(65000, neighbours(lab), "another")
    with routers.running("frr", lab.node("tor"), tmp_path / "other", router):
        wait_until(
            lambda: any(p.startswith(f"bgp {routers.ADDRESSES[0]}: ") for p in problems(host)),
            deadline_s=120,
            what="a word about the session",
        )
        assert not set(routers.ADDRESSES).intersection(peers_of(host))


def tells(tor: Place, folder: Path, *words: str) -> str:
    """Return what the router's BIRD answers, if it is up already."""
    return tor.exec(["birdc", "-s", str(folder / "bird.ctl"), *words], check=False)


def test_what_a_peer_is_to_be_told_arrives_at_the_router(lab_up: LabUp, tmp_path: Path) -> None:
    """Communities, whose next hop it is, how long to keep routes; of two blocks of IPv6 but one.

    One host tells of the others, too; with its own next hop their packets would all pass by it.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    for host in lab.hosts:
        host.run("a")
    four, six = (next(b for b in second.blocks() if (":" in b) == v6) for v6 in (False, True))
    own6 = next(block for block in first.blocks() if ":" in block)
    tor, folder = lab.node("tor"), tmp_path / "tor"
    colours = ["65001:100", "65001:7:9"]
    told = [{"cidr": cidr, "communities": colours} for cidr in ("10.233.0.0/16", "fd00::/8")]
    refuse = {"action": "Reject", "matchOperator": "Equal"}
    only = {"node": first.name, "maxRestartTime": "45s", "filters": ["six"]}
    rules = {
        "exportV6": [{**refuse, "cidr": own6}],
        "importV6": [{**refuse, "cidr": routers.BEHIND[1]}],
    }
    apply(
        first,
        resource("BGPConfiguration", "default", prefixAdvertisements=told),
        resource("BGPFilter", "six", **rules),
        *peers(65000, keepOriginalNextHop=True, **only),
    )
    wanted = routers.Wanted(65000, [first.underlay, "fd26::100"])
    with routers.running("bird", tor, folder, wanted):
        for cidr, way in ((four, second.underlay), (six, "fd26::101")):
            wait_until(
                lambda: f"via {way} " in tells(tor, folder, "show", "route", cidr),  # noqa: B023
                deadline_s=120,
                what=f"the way to {cidr}",
            )
        own = next(block for block in first.blocks() if ":" not in block)
        wait_until(
            lambda: "BGP.community" in tells(tor, folder, "show", "route", own, "all"),
            deadline_s=120,
            what=own,
        )
        said = tells(tor, folder, "show", "route", own, "all")
        assert "BGP.community: (65001,100)" in said
        assert "BGP.large_community: (65001, 7, 9)" in said
        assert "Restart time: 45" in tells(tor, folder, "show", "protocols", "all", "p0")
        assert own6 not in tells(tor, folder, "show", "route")
        wait_until(
            lambda: any(routers.BEHIND[0] in line for line in bird_routes(first)),
            deadline_s=120,
            what="the way to what is behind",
        )
        assert not any(routers.BEHIND[1] in line for line in bird_routes(first, "-6"))
        apply(first, *peers(65000, **only))
        wait_until(
            lambda: f"via {first.underlay} " in tells(tor, folder, "show", "route", four),
            deadline_s=120,
            what="the way by the host that tells of it",
        )


def test_a_router_from_further_away_than_is_said_gets_no_session(
    lab_up: LabUp, tmp_path: Path
) -> None:
    """Its packets have to say that they passed no router (RFC 5082), which it has to know, too."""
    lab = lab_up(routers.rack(1))
    (host,) = lab.hosts
    host.run("a")
    apply(host, *peers(65000, ttlSecurity=1))
    tor = lab.node("tor")
    near = routers.Wanted(65000, neighbours(lab), words="ttl security on; ")
    begun = time.monotonic()
    with routers.running("bird", tor, tmp_path / "near", near):
        wait_sessions(lab)
        took_s = time.monotonic() - begun
    wait_sessions(lab, up=False)
    with routers.running("bird", tor, tmp_path / "far", routers.Wanted(65000, neighbours(lab))):
        time.sleep(2 * took_s)
        wait_until(
            lambda: any(p.startswith(f"bgp {routers.ADDRESSES[0]}: ") for p in problems(host)),
            deadline_s=120,
            what="a word about the session",
        )
        assert not set(routers.ADDRESSES).intersection(peers_of(host))
