"""Whatever text or JSON stands where a value is read: it is taken, or refused as the user's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.test_resources import (
    HARD,
    each_replaced,
    like_numbers,
    paths,
    refusals,
    values,
    with_value,
)

from netloom.cli import definitions, flannel_flags
from netloom.cli.settings import SETTINGS
from netloom.core import definition, selection
from netloom.core.resources.values import parse_as, parse_community
from netloom.lab.containers import parse_port
from netloom.model.addr import parse_address, parse_mac, parse_network
from netloom.model.endpoint import Endpoint
from netloom.model.fields import whole_number
from netloom.model.selector import Selector
from netloom.reconcile.cluster_tables import TABLES
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.lease import Lease

RECORDS: dict[str, list[Any]] = {
    "hosts": [
        {
            "id": "h1",
            "name": "h1",
            "underlay": {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"},
            "macs": {"blue": "02:42:00:00:00:01"},
            "serves": {"blue": ["vxlan", "unpacks"]},
            "sends": {"blue": "vxlan"},
            "segments": ["192.0.2.0/24"],
            "devices": {"ipip": True},
            "contested": ["192.0.2.2"],
        }
    ],
    "blocks": [
        {"network": "blue", "cidr": "10.1.0.0/26", "host": "h1", "state": "pending"},
        {"network": "blue", "cidr": "10.1.0.9/32", "host": "h1", "lender": "h2"},
    ],
    "networks": [
        {
            "name": "blue",
            "pools": [{"cidr": "10.1.0.0/16", "blockSize": 26, "nodeSelector": "all()"}],
            "addressing": {"mode": "on-demand", "maxBlocksPerHost": 4, "borrowing": False},
            "attachment": {"type": "routed"},
            "backend": {"type": kind, **options},
            "mtu": 1400,
            "retiring": [{"type": "host-gw"}],
            "moves": 3,
        }
        for kind, options in (
            ("vxlan", {"vni": 1, "port": 4789, "directRouting": True, "device": "vx"}),
            ("udp", {"port": 8285, "device": "flannel0"}),
            ("ipip", {"crossSubnet": True}),
            ("per-pool", {"default": {"type": "bgp"}, "pools": {"10.1.0.0/16": {"type": "ipip"}}}),
        )
    ],
    "reservations": [{"network": "blue", "cidr": "10.1.0.7", "reason": "router"}],
    "resources": [
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPPeer",
            "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"peerIP": "192.0.2.1"},
        }
    ],
}
ENDPOINT = {
    "network": "blue",
    "host": "h1",
    "container": "c",
    "ifname": "eth0",
    "netns": "/run/netns/c",
    "hostIfname": "veth1",
    "mac": "02:42:00:00:00:01",
    "addresses": ["10.1.0.5"],
    "attached": True,
    "ports": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}],
    "bandwidth": {"ingressRate": 1, "egressRate": 1},
    "labels": {"a": "b"},
    "created": "2026-03-01T12:00:00Z",
    "ledOut": [4],
}
LEASE = {
    "PublicIP": "192.0.2.1",
    "PublicIPv6": "2001:db8::1",
    "BackendType": "vxlan",
    "BackendData": {"VNI": 1, "VtepMAC": "02:42:00:00:00:01"},
    "BackendV6Data": {"VNI": 1, "VtepMAC": "02:42:00:00:00:02"},
}
FLANNEL = {
    "Network": "10.5.0.0/16",
    "SubnetLen": 24,
    "SubnetMin": "10.5.1.0",
    "SubnetMax": "10.5.9.0",
    "EnableIPv6": True,
    "IPv6Network": "fd00:5::/56",
    "IPv6SubnetLen": 64,
    "Backend": {"Type": "vxlan", "VNI": 1, "Port": 8472, "DirectRouting": True, "MTU": 1400},
}
texts = st.text(max_size=40) | like_numbers
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def replaced(draw: st.DrawFn, record: Any) -> Any:
    """Return a record in which something is another JSON value."""
    return with_value(record, draw(st.sampled_from(list(paths(record)))), draw(values))


def parsers() -> Iterator[tuple[str, Callable[[Any], object], Any]]:
    """Yield (name, parser, record) for all that hosts keep in a store or in their journals."""
    for table in TABLES:
        for number, record in enumerate(RECORDS[table.name]):
            yield f"{table.name}-{number}", table.parse, record
            if table.name == "networks":
                yield f"definition-{number}", definition.parse, record
    yield "endpoint", Endpoint.parse, ENDPOINT
    yield "lease", lambda data: Lease.parse(json.dumps(data).encode()), LEASE
    yield "flannel", lambda data: FlannelConfig.parse(json.dumps(data).encode()), FLANNEL


@pytest.mark.parametrize(
    ("parse", "record"), [pytest.param(parse, record, id=name) for name, parse, record in parsers()]
)
class TestRecords:
    def test_is_taken(self, parse: Callable[[Any], object], record: Any) -> None:
        parse(record)

    def test_with_one_field_replaced_is_taken_or_refused(
        self, parse: Callable[[Any], object], record: Any
    ) -> None:
        for changed in each_replaced(record):
            with refusals():
                parse(changed)

    @unhurried
    @given(data=st.data())
    def test_with_anything_replaced_is_taken_or_refused(
        self, parse: Callable[[Any], object], record: Any, data: st.DataObject
    ) -> None:
        changed = data.draw(replaced(record))
        with refusals():
            parse(changed)


def readers() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Yield every function that makes a value of a text that a user wrote, by name."""
    yield "address", lambda text: parse_address(text, "f")
    yield "network", lambda text: parse_network(text, "f")
    yield "length", lambda text: parse_network(f"10.0.0.0/{text}", "f")
    yield "mac", lambda text: parse_mac(text, "f")
    yield "AS number", lambda text: parse_as(text, "f")
    yield "community", lambda text: parse_community(text, "f")
    yield "communities", lambda text: parse_community(f"{text}:{text}", "f")
    yield "selector", lambda text: Selector.parse(text, "f")
    yield "published port", parse_port
    yield "published ports", lambda text: parse_port(f"{text}:{text}/udp")
    yield "underlay", selection.parse
    for setting in SETTINGS:
        yield setting.key, lambda text, parse=setting.parse: parse(text, "f")
    for flag in flannel_flags.BY_NAME.values():
        yield f"flanneld -{flag.name}", lambda text, name=flag.name: of_flanneld(name, text)
    for key in ("mtu", "pools[0].blockSize", "backend"):
        yield f"--set {key}", lambda text, key=key: of_network(f"{key}={text}")
    yield "--set", of_network


def of_flanneld(name: str, text: str) -> None:
    given = flannel_flags.Given()
    given.add(name, text, "f")
    if flannel_flags.BY_NAME[name].kind == "int":
        given.number(name)


def of_network(wish: str) -> None:
    wishes = definitions.Wishes(sets=[wish])
    definition.parse(definitions.assemble("blue", {"pools": ["10.1.0.0/16"]}, wishes))


READERS = dict(readers())


@pytest.mark.parametrize("what", READERS)
@unhurried
@given(text=texts)
def test_a_text_is_taken_or_refused(what: str, text: str) -> None:
    with refusals():
        READERS[what](text)


@pytest.mark.parametrize("what", READERS)
def test_what_is_like_a_number_is_taken_or_refused(what: str) -> None:
    for text in HARD:
        if isinstance(text, str):
            with refusals():
                READERS[what](text)


@unhurried
@given(texts | st.integers().map(str))
def test_a_whole_number_is_written_in_the_digits_0_to_9_alone(text: str) -> None:
    number = whole_number(text)
    if number is None:
        assert not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 40)
    else:
        assert text.removeprefix("-").lstrip("0") == str(abs(number)).lstrip("0")
