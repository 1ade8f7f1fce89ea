"""Containers that send from addresses that are not theirs: dropped, and nothing else is.

What is sent by a false address arrives before a true word does, on the same way: whoever hears the
true word first never hears the false one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from netloom.kernel.namespaces import in_namespace, path
from netloom.lab.documents import default_document
from netloom.lab.host import LabContainer
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

PORT = 7007
KINDS = ("bridge", "routed")
#: Whose address is used, towards whom: nobody hears of himself from outside.
ROUTED = [
    (of, target)
    for of in ("outside", "free", "h1", "h2", "h1/near", "h2/far-routed")
    for target in ("h1", "h2", "h1/near", "h2/far-routed")
    if of != target
]
BRIDGED = [
    (of, target)
    for of in ("outside", "h2", "h1/near", "h2/far-bridge")
    for target in ("h1", "h2/far-bridge")
    if of != target
]


def document() -> dict[str, Any]:
    """Return two hosts of both families with a bridged and a routed network."""
    found = default_document(hosts=2, network=None)
    found["segments"][0]["subnets"].append("fd31::/64")
    for number, host in enumerate(found["hosts"], 62):
        host["interfaces"][0].pop("address")
        host["interfaces"][0]["addresses"] = [f"192.168.31.{number}", f"fd31::{number}"]
    found["networks"] = [
        {
            "name": kind,
            "pools": [
                {"cidr": f"10.{number}.0.0/16", "natOutgoing": False},
                {"cidr": f"fd00:{number}::/56", "natOutgoing": False},
            ],
            "attachment": kind,
            "backend": "host-gw",
        }
        for number, kind in enumerate(KINDS, 11)
    ]
    return found


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(document(), name=next(lab_names), owner=myself()) as up:
        for kind in KINDS:
            up.host("h1").run(f"liar-{kind}", networks=[kind])
            up.host("h2").run(f"far-{kind}", networks=[kind])
        up.host("h1").run("near", networks=["routed"])
        up.host("h1").run("both", networks=["routed", "bridge"])
        yield up


def box(lab: Lab, place: str) -> LabContainer:
    """Return a container by ``host/name``."""
    host, _, name = place.partition("/")
    return lab.host(host).container(name)


def address(lab: Lab, place: str, family: int) -> str:
    """Return a host's or a container's address."""
    if "/" not in place:
        return {"h1": ("192.168.31.62", "fd31::62"), "h2": ("192.168.31.63", "fd31::63")}[place][
            family == 6
        ]
    found = box(lab, place).addresses
    return str(next(a for a in found if (":" in a) == (family == 6)))


@contextmanager
def ear(place: Place, family: int, device: str = "") -> Iterator[socket.socket]:
    """Listen on every address of a place."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    made = in_namespace(path(place.namespace), lambda: socket.socket(kind, socket.SOCK_DGRAM))
    with made:
        if family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if device:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        made.bind(("", PORT))
        made.settimeout(60)
        yield made


def say(place: LabContainer, source: str, target: str, text: bytes) -> None:
    """Send by ``source``, whether the place has that address or not."""
    kind = socket.AF_INET6 if ":" in target else socket.AF_INET

    def go() -> None:
        with socket.socket(kind, socket.SOCK_DGRAM) as mouth:
            mouth.bind((source, 0))
            mouth.sendto(text, (target, PORT))

    if source in place.addresses:
        in_namespace(path(place.namespace), go)
        return
    taken = [f"{source}/{128 if ':' in source else 32}", "dev", "lo"]
    place.exec(["ip", "address", "add", *taken, *(["nodad"] if ":" in source else [])])
    try:
        in_namespace(path(place.namespace), go)
    finally:
        place.exec(["ip", "address", "delete", *taken])


def stranger(lab: Lab, liar: str, of: str, family: int) -> str:
    """Return an address that is not the liar's: an outsider's, a free one, another's."""
    own = address(lab, liar, family)
    if of == "outside":
        return "192.0.2.66" if family == 4 else "2001:db8::66"
    if of == "free":
        return own.rpartition("." if family == 4 else ":")[0] + (".61" if family == 4 else ":3d")
    return address(lab, of, family)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("of", "target"), ROUTED)
def test_nobody_hears_a_routed_container_by_another_address(
    lab: Lab, of: str, target: str, family: int
) -> None:
    said(lab, "h1/liar-routed", of, target, family)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("of", "target"), BRIDGED)
def test_nobody_beyond_its_bridge_hears_a_bridged_container_by_an_address_from_beyond(
    lab: Lab, of: str, target: str, family: int
) -> None:
    said(lab, "h1/liar-bridge", of, target, family)


def said(lab: Lab, liar: str, of: str, target: str, family: int) -> None:
    """Check that only the true word arrives, and that it was the guard that kept the false away."""
    mouth, source = box(lab, liar), stranger(lab, liar, of, family)
    to = address(lab, target, family)
    with ear(lab.place(target), family) as heard:
        say(mouth, source, to, b"false")
        say(mouth, address(lab, liar, family), to, b"true")
        word, who = heard.recvfrom(100)
    assert (word, who[0]) == (b"true", address(lab, liar, family))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_guard_that_keeps_it_away_and_one_that_was_flushed_is_back(
    lab: Lab, kind: str, family: int
) -> None:
    """A link that another hand took out of its group is put back, too."""
    host, liar = lab.host("h1"), box(lab, f"h1/liar-{kind}")
    source, to = stranger(lab, f"h1/liar-{kind}", "outside", family), address(lab, "h2", family)
    device = "cni0"
    if kind == "routed":
        own = address(lab, "h1/liar-routed", family)
        (route,) = host.json(["ip", f"-{family}", "-j", "route", "show", own])
        device = route["dev"]
    lab.fault("h1", "kill-agent")
    try:
        with ear(lab.place("h2"), family) as heard:
            host.exec(["ip", "link", "set", device, "group", "0"])
            say(liar, source, to, b"unguarded")
            assert heard.recvfrom(100)[0] == b"unguarded"
    finally:
        host.start_agent()
    wait_until(
        lambda: host.json(["ip", "-j", "link", "show", device])[0]["group"] == "78",
        deadline_s=60,
        what="the group's repair",
    )
    said(lab, f"h1/liar-{kind}", "outside", "h2", family)


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_dropped_is_never_tracked(lab: Lab, family: int) -> None:
    """A container cannot fill the host's table of connections by addresses of its invention."""
    host, liar = lab.host("h1"), box(lab, "h1/liar-routed")
    to = address(lab, "h2", family)
    host.exec(["nft", "add table inet watch; add chain inet watch seen "
               "{ type filter hook prerouting priority -299; }; add rule inet watch seen "
               f"udp dport {PORT} counter"])  # fmt: skip
    try:
        for number in range(50):
            source = f"192.0.2.{number + 1}" if family == 4 else f"2001:db8::{number + 1:x}"
            say(liar, source, to, b"false")
        with ear(lab.place("h2"), family) as heard:
            say(liar, address(lab, "h1/liar-routed", family), to, b"true")
            assert heard.recvfrom(100)[0] == b"true"
        assert "packets 1 " in host.exec(["nft", "list", "table", "inet", "watch"])
    finally:
        host.exec(["nft", "delete", "table", "inet", "watch"])


@pytest.mark.parametrize("asker", ["far-routed", "far-bridge"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_container_of_two_networks_answers_through_whichever_leads_back(
    lab: Lab, asker: str, family: int
) -> None:
    """It is asked by one network's address and answers over the other network's interface."""
    both = box(lab, "h1/both")
    asked = [a for a in both.addresses if (":" in a) == (family == 6)]
    assert len(asked) == 2
    for target in asked:
        assert lab.place(f"h2/{asker}").pings(target), f"{asker} asks {target}"
    listed = lab.host("h1").exec(["nft", "list", "set", "inet", "netloom", f"elsewhere{family}"])
    assert all(target in listed for target in asked)
    with ear(lab.place("h2"), family) as heard:
        say(both, stranger(lab, "h1/both", "outside", family), address(lab, "h2", family), b"lie")
        say(both, asked[0], address(lab, "h2", family), b"true")
        assert heard.recvfrom(100)[0] == b"true"


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_found_and_doubles_detected_as_ever(lab: Lab, kind: str) -> None:
    """Link-local sources pass, and so does "::", by which an address is looked for before use."""
    host, liar = lab.host("h1"), box(lab, f"h1/liar-{kind}")
    device = "cni0"
    if kind == "routed":
        own = address(lab, "h1/liar-routed", 4)
        device = host.json(["ip", "-j", "route", "show", own])[0]["dev"]
    shown = host.json(["ip", "-j", "-6", "address", "show", "dev", device, "scope", "link"])
    (local,) = (a["local"] for link in shown for a in link["addr_info"] if a)
    assert liar.pings(f"{local}%eth0")
    assert liar.pings("ff02::1%eth0")
    liar.exec(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"])
    liar.exec(["ip", "address", "add", f"{local}/64", "dev", "eth0"])

    def found() -> bool:
        listed = liar.exec(["ip", "-6", "address", "show", "dev", "eth0"])
        return "dadfailed" in next(x for x in listed.splitlines() if local in x)

    wait_until(found, deadline_s=60, what="the double's being found")
    liar.exec(["ip", "address", "del", f"{local}/64", "dev", "eth0"])


def test_a_container_asks_for_an_address_it_has_not_yet(lab: Lab) -> None:
    """DHCP's first word comes from 0.0.0.0; who serves it on the host hears it."""
    host, liar = lab.host("h1"), box(lab, "h1/liar-bridge")
    datagram = struct.pack("!HHHH", 68, PORT, 8 + len(b"discover"), 0) + b"discover"
    head = [0x4500, 20 + len(datagram), 1, 0, 64 << 8 | socket.IPPROTO_UDP, 0, 0, 0, 0xFFFF, 0xFFFF]
    total = sum(head)
    head[5] = ~(total + (total >> 16)) & 0xFFFF

    def go() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as wire:
            packet = struct.pack("!10H", *head) + datagram
            wire.sendto(packet, ("eth0", 0x0800, 0, 0, b"\xff" * 6))

    with ear(host, 4, "cni0") as heard:
        in_namespace(path(liar.namespace), go)
        assert heard.recvfrom(100) == (b"discover", ("0.0.0.0", 68))
