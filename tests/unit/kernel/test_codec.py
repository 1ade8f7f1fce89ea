"""What is encoded decodes to the same object: the kernel speaks as it is spoken to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.kernel import decode, encode, wire
from netloom.model.kernel import Address, Fdb, Neighbour, Route
from netloom.reconcile.contracts import Verb

INDEX, NAMES = 7, {7: "flannel.1"}
LINK_LOCAL = ipaddress.ip_network("fe80::/64")

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
macs = st.binary(min_size=6, max_size=6).map(lambda packed: packed.hex(":"))


@st.composite
def networks(draw):
    address = draw(addresses)
    length = draw(st.integers(0, address.max_prefixlen))
    return ipaddress.ip_network((address, length), strict=False)


@st.composite
def routes(draw):
    destination = draw(networks().filter(lambda net: net != LINK_LOCAL))
    version = destination.version
    numbers = {
        "protocol": draw(st.integers(1, 255)),
        "metric": draw(st.integers(0, 2**32 - 1)),
        "mtu_bytes": draw(st.integers(0, 2**16)),
    }
    if draw(st.booleans()):
        return Route(destination, type="blackhole", **numbers)
    gateway = draw(st.none() | st.ip_addresses(v=version))
    onlink = gateway is not None and draw(st.booleans())
    return Route(destination, "flannel.1", gateway, onlink, **numbers)


def payload(request):
    length, *_ = wire.HEADER.unpack_from(request)
    assert length == len(request)
    assert length % 4 == 0
    return request[wire.HEADER.size :]


@given(routes(), st.sampled_from([Verb.ADD, Verb.REPLACE]))
def test_a_route_is_what_it_was(route, verb):
    request = encode.encode(verb, route, INDEX if route.link else 0)
    assert decode.routes([payload(request)], NAMES) == [route]


@given(addresses, macs)
def test_a_neighbour_is_what_it_was(address, mac):
    neighbour = Neighbour("flannel.1", address, mac)
    request = encode.encode(Verb.ADD, neighbour, INDEX)
    assert decode.neighbours([payload(request)], NAMES) == [neighbour]
    assert decode.neighbours([payload(request)], {8: "other"}) == []


@given(addresses, macs)
def test_a_forwarding_entry_is_what_it_was(remote, mac):
    entry = Fdb("flannel.1", mac, remote)
    request = encode.encode(Verb.ADD, entry, INDEX)
    assert decode.fdb([payload(request)], NAMES) == [entry]
    assert decode.neighbours([payload(request)], NAMES) == []


@given(networks())
def test_an_address_is_what_it_was(network):
    interface = ipaddress.ip_interface((network.network_address, network.prefixlen))
    address = Address("flannel.1", interface)
    request = encode.encode(Verb.ADD, address, INDEX)
    (found,) = decode.addresses([payload(request)], NAMES)
    assert found == address
    assert found.permanent


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_come_apart_as_they_were_put_together(pairs):
    data = b"".join(wire.attribute(kind, value) for kind, value in pairs)
    assert list(wire.attributes(data)) == pairs


@pytest.mark.parametrize("verb", [Verb.ADD, Verb.REPLACE, Verb.DELETE])
def test_only_a_route_that_is_ours_is_deleted(verb):
    """The request names our protocol, so the kernel passes over another's route."""
    route = Route(ipaddress.ip_network("10.244.2.0/24"), "flannel.1")
    fields = wire.ROUTE_HEADER.unpack_from(payload(encode.encode(verb, route, INDEX)))
    assert fields[5] == 78
