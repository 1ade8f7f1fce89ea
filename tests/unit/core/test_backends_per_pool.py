"""Backend per-pool: each pool has its own, and what holds of a backend holds of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import block, facts, host, network

from netloom.core import definition, moving
from netloom.core.backends.contract import Side
from netloom.core.backends.per_pool import PerPoolBackend, PreparedDivision
from netloom.core.backends.table import BACKENDS
from netloom.model.errors import InvalidConfig
from netloom.model.network import Choice, Network
from netloom.model.wording import describe

OPTIONS: dict[str, Any] = {
    "default": {"type": "host-gw"},
    "pools": {"10.2.0.0/16": {"type": "vxlan", "vni": 7}},
}
PEER = host("h2", "192.168.31.63", macs={"blue": "02:00:00:00:00:02"})


def divided(**options: Any) -> Network:
    return network(
        "blue", "10.1.0.0/16", "10.2.0.0/16", backend={"type": "per-pool", **OPTIONS, **options}
    )


def prepare(wanted: Network) -> PreparedDivision:
    backend = BACKENDS["per-pool"]
    assert isinstance(backend, PerPoolBackend)
    blocks = (block("10.1.0.0/24", "h1"), block("10.2.0.0/24", "h1"))
    return backend.prepare(Side(wanted, host("h1"), facts("192.168.31.62/24"), blocks))


def test_each_block_goes_the_way_of_its_pool() -> None:
    prepared = prepare(divided())
    plain = prepared.reach(PEER, block("10.1.1.0/24", "h2"))
    assert plain.path == "host-gw via 192.168.31.63 dev ens33"
    tunnel = prepared.reach(PEER, block("10.2.1.0/24", "h2"))
    routes = [describe(obj) for obj in tunnel.objects.values() if obj.kind_name == "route"]
    assert routes == ["route 10.2.1.0/24 via 10.2.1.0 dev flannel.7 onlink"]


def test_a_backend_takes_of_its_own_pools_blocks_alone() -> None:
    prepared = prepare(divided())
    addresses = [obj for obj in prepared.objects.values() if obj.kind_name == "address"]
    assert [describe(obj) for obj in addresses] == ["address 10.2.0.0/32 dev flannel.7"]
    assert prepared.excluded(block("10.1.0.0/24", "h1")) == frozenset()
    assert len(prepared.excluded(block("10.2.0.0/24", "h1"))) == 1
    assert prepared.mtu_bytes == 1450, "containers may talk by either way"


def test_what_a_host_publishes_and_claims_is_that_of_its_backends() -> None:
    wanted = divided()
    assert BACKENDS["per-pool"].publish(wanted, "h1")
    claims = BACKENDS["per-pool"].claims(wanted.backend.options)
    assert claims == BACKENDS["vxlan"].claims({"vni": 7})
    with pytest.raises(InvalidConfig, match="VNI 7"):
        definition.check_against(
            network("red", "10.9.0.0/16", backend={"type": "vxlan", "vni": 7}), [wanted]
        )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"default": None}, "backend.default"),
        ({"default": {"type": "vxlam"}}, "backend.default.type"),
        ({"default": {"type": "per-pool"}}, "backend.default.type"),
        ({"pools": {"10.2.0.0/16": {"type": "vxlan", "vni": 0}}}, "backend.pools.10.2.0.0/16.vni"),
        ({"pools": {"10.2.0.1/16": {"type": "vxlan"}}}, "backend.pools.10.2.0.1/16"),
        ({"pools": {"fd00::/48": {"type": "udp"}}}, "backend.pools.fd00::/48"),
    ],
)
def test_what_is_wrong_with_a_division_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        divided(**options)
    assert caught.value.field == field


def test_a_network_moves_from_one_division_to_another_as_from_any_backend() -> None:
    before = divided()
    asked = divided(pools={"10.2.0.0/16": {"type": "vxlan", "vni": 8}})
    wanted = moving.begin(before, asked)
    assert wanted.retiring == (before.backend,)
    assert before.backend.label != asked.backend.label


def test_equal_divisions_have_one_label_whatever_the_order_of_their_fields() -> None:
    one = Choice("per-pool", {"pools": {"a": {"x": 1, "y": 2}}})
    two = Choice("per-pool", {"pools": {"a": {"y": 2, "x": 1}}})
    assert one.label == two.label
