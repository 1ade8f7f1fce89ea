"""A host in a namespace of its own, and the kernel layer over it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

import pytest

from netloom.kernel.rtnetlink import RtKernel
from netloom.model.errors import NetloomError
from netloom.model.kernel import KernelObject, Link, Peer, Vxlan
from netloom.reconcile.contracts import Change, Outcome, Verb

Try = Callable[..., list[NetloomError | None]]


@pytest.fixture
def host(two_hosts):
    """Return a host whose underlay interface is ens33, 192.168.31.62/24 and fd31::62/64."""
    return two_hosts[0]


@pytest.fixture
def kernel(host) -> Iterator[RtKernel]:
    """Return rtnetlink in the host's namespace."""
    kernel = RtKernel(host.path)
    yield kernel
    kernel.close()


@pytest.fixture
def flannel1() -> Link:
    """Return the vxlan device of the tutorials, over ens33."""
    return Link(
        "flannel.1",
        "vxlan",
        alias="netloom:blue",
        mtu_bytes=1450,
        mac="02:aa:00:00:00:62",
        vxlan=Vxlan(1, 8472, "ens33", ipaddress.ip_address("192.168.31.62")),
    )


@pytest.fixture
def cni0() -> Link:
    """Return a bridge."""
    return Link("cni0", "bridge", alias="netloom:blue", mtu_bytes=1450, mac="02:bb:00:00:00:62")


def _change(verb: Verb, item: KernelObject | tuple[KernelObject, KernelObject]) -> Change:
    obj, was = item if isinstance(item, tuple) else (item, None)
    return Change(verb, obj, was)


@pytest.fixture
def attempt(kernel) -> Try:
    """Return a function that applies one verb to each object and returns the errors, in order.

    For REPLACE an item may be the pair (what shall stand, what stands).
    """

    def attempt(verb: Verb, *items: KernelObject) -> list[NetloomError | None]:
        changes = [_change(verb, item) for item in items]
        outcomes: Sequence[Outcome] = kernel.apply(changes)
        assert [outcome.change for outcome in outcomes] == changes
        return [outcome.error for outcome in outcomes]

    return attempt


@pytest.fixture
def add(attempt) -> Callable[..., None]:
    """Return a function that adds objects, each of which must succeed."""

    def add(*objects: KernelObject) -> None:
        errors = [error for error in attempt(Verb.ADD, *objects) if error]
        assert not errors, errors

    return add


@pytest.fixture
def standing(kernel) -> Callable[..., dict[str, KernelObject]]:
    """Return a function that reads the objects of some kinds, by key."""

    def standing(*kinds: str) -> dict[str, KernelObject]:
        objects = kernel.read(kinds)
        state = {obj.key: obj for obj in objects}
        assert len(state) == len(objects)
        return state

    return standing


@pytest.fixture
def pod_link() -> Callable[..., Link]:
    """Return a function that makes the veth of a container on cni0, 10.244.1.2 and fd00:1::2."""
    gateway, gateway6 = ipaddress.ip_address("10.244.1.1"), ipaddress.ip_address("fd00:1::1")

    def pod_link(pod) -> Link:
        peer = Peer(
            pod.path,
            "eth0",
            "02:cc:00:00:00:02",
            1450,
            (ipaddress.ip_interface("10.244.1.2/24"), ipaddress.ip_interface("fd00:1::2/64")),
            (
                (ipaddress.ip_network("0.0.0.0/0"), gateway),
                (ipaddress.ip_network("10.244.0.0/16"), gateway),
                (ipaddress.ip_network("::/0"), gateway6),
            ),
            sysctls=(("ipv6/conf/eth0/accept_ra", "0"), ("ipv6/conf/eth0/accept_dad", "0")),
        )
        return Link(
            "veth12345678",
            "veth",
            alias="netloom:blue",
            mtu_bytes=1450,
            mac="02:dd:00:00:00:02",
            master="cni0",
            hairpin=True,
            peer=peer,
        )

    return pod_link
