"""Networks by ipip and by BGP on the same hosts: BIRD's hands are kept off the tunnel's routes.

A BIRD takes away, at each of its scans, whatever route of its protocol is not its own; and the
routes into the tunnel are called so where there is no BIRD. Real BIRD, real module ipip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.scenes.bgp_lab import document

from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

#: A route that somebody else might have left: nothing of it is Netloom's.
DECOY = "10.99.0.0/24"


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Two hosts whose first network goes by ipip; no BIRD runs yet."""
    made = document((100, 101), name="tunnels", backend="ipip")
    with Lab.up(made, name=next(lab_names), owner=myself()) as lab:
        yield lab


@pytest.fixture(scope="module")
def ends(lab: Lab) -> tuple[LabContainer, LabContainer]:
    """A container on each host, in the network by ipip."""
    one, two = (host.run(f"t{host.name}") for host in lab.hosts)
    wait_until(lambda: tunnel(lab.hosts[0], "bird"), deadline_s=60, what="the way there")
    return one, two


def tunnel(host: LabHost, protocol: str) -> list[str]:
    """Return the routes into the tunnel that are called after ``protocol``."""
    routes = host.exec(["ip", "route", "show", "dev", "tunl0"]).splitlines()
    return [each for each in routes if re.search(rf"\bproto {protocol}\b", each)]


def by_bgp(host: LabHost) -> list[str]:
    """Return the routes to other hosts that BIRD has written."""
    routes = host.exec(["ip", "route", "show", "dev", "ens32"]).splitlines()
    return [each for each in routes if " proto bird" in each]


def await_scan(host: LabHost) -> None:
    """Wait until BIRD has looked through the routing table: a route in its name goes then."""
    host.exec(["ip", "route", "replace", DECOY, "dev", "ens32", "proto", "bird"])
    wait_until(
        lambda: not host.exec(["ip", "route", "show", DECOY]).strip(),
        deadline_s=60,
        what="BIRD to take a route away that is in its name and not its own",
    )


def test_beside_a_bird_the_tunnels_routes_are_in_our_name_and_outlive_its_scans(
    lab: Lab, ends: tuple[LabContainer, LabContainer]
) -> None:
    """The network by BGP comes while packets go through the tunnel; none is lost."""
    with Pings(ends[0], ends[1].address) as pings:
        words = "network create flat --pool 10.240.0.0/16 --preset calico"
        lab.hosts[0].exec(["netloom", *words.split()])
        flat = [host.run(f"f{host.name}", networks=("flat",)) for host in lab.hosts]
        for host in lab.hosts:
            wait_until(lambda: by_bgp(host), deadline_s=60, what="BIRD's routes")  # noqa: B023
            await_scan(host)
            assert len(tunnel(host, "78")) == 1
            assert not tunnel(host, "bird")
        assert flat[0].pings(flat[1].address)
    assert pings.lost == 0


def test_what_another_hand_puts_in_birds_name_is_put_right(
    lab: Lab, ends: tuple[LabContainer, LabContainer]
) -> None:
    """Whether BIRD or the agent sees it first: the way is there again, in our name."""
    one = lab.hosts[0]
    (own,) = tunnel(one, "78")
    destination, *rest = own.split()
    named = [word.replace("78", "bird") if word == "78" else word for word in rest]
    one.exec(["ip", "route", "replace", destination, *named[:2], "dev", "tunl0", *named[2:]])
    wait_until(lambda: tunnel(one, "78") == [own], deadline_s=60, what="the route as it was")
    await_scan(one)
    assert tunnel(one, "78") == [own]
    assert ends[0].pings(ends[1].address)


def test_when_bird_has_gone_the_routes_are_in_its_name_again(
    lab: Lab, ends: tuple[LabContainer, LabContainer]
) -> None:
    """Its last deed is to take its own away; the tunnel's are none of them."""
    with Pings(ends[0], ends[1].address) as pings:
        for host in lab.hosts:
            host.remove(f"f{host.name}")
        lab.hosts[0].exec(["netloom", "network", "delete", "flat"])
        for host in lab.hosts:
            wait_until(lambda: tunnel(host, "bird"), deadline_s=60, what="the routes' name")  # noqa: B023
            wait_until(lambda: not by_bgp(host), deadline_s=60, what="BIRD's routes to go")  # noqa: B023
            assert not tunnel(host, "78")
    assert pings.lost == 0
