"""An entry of the store that surprises whoever interprets it is a problem of its own, no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.test_bgp_resources import TOR, resource, seen

from netloom.core.desired import Memory, desired
from netloom.model.kernel import Bird
from netloom.model.network import Choice, Network
from netloom.model.resource import Resource
from netloom.model.view import View
from netloom.reconcile.cluster_tables import TABLES, Place, read


class Trap(Mapping[str, Any]):
    """A value of which everything is a surprise."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("secret")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("secret")

    def __len__(self) -> int:
        raise RuntimeError("secret")


def told(view: View) -> list[str]:
    return [f"{p.subject}: {p.text}" for p in desired(view, Memory()).problems]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("BGPConfiguration", "default"),
        ("BGPConfiguration", "node.h1"),
        ("BGPPeer", "odd"),
        ("BGPFilter", "odd"),
        ("Node", "h2"),
        ("IPReservation", "odd"),
        ("IPAMConfiguration", "default"),
        ("IPPool", "odd"),
        ("FelixConfiguration", "default"),
    ],
)
def test_a_resource_that_surprises_spoils_no_other(kind: str, name: str) -> None:
    peer = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000, filters=["odd"])
    view = seen(peer, Resource(kind, name, Trap()))
    made = desired(view, Memory())
    (bird,) = [obj for obj in made.state.values() if isinstance(obj, Bird)]
    assert "192.168.26.254" in bird.config
    assert not [problem for problem in made.problems if "secret" in problem.text]
    if kind.startswith(("BGP", "IPAM", "IPRes")) or kind == "Node":
        (text,) = [problem.text for problem in made.problems if "interpreted" in problem.text]
        assert "RuntimeError at netloom." in text


def test_what_nobody_can_read_is_told_until_it_is_mended() -> None:
    """The documents are looked at when one of them is another, not at every turn."""
    memory = Memory()
    odd, good = seen(Resource("IPReservation", "odd", Trap())), seen()
    for view, problems in ((odd, 1), (odd, 1), (good, 0), (odd, 1)):
        made = desired(view, memory)
        assert len([p for p in made.problems if p.subject == "IPReservation(odd)"]) == problems


def test_a_network_that_surprises_spoils_no_other() -> None:
    view = seen(TOR)
    blue = view.cluster.networks["blue"]
    odd = replace(blue, name="odd", backend=Choice("vxlan", Trap()))
    networks: dict[str, Network] = {"blue": blue, "odd": odd}
    made = desired(replace(view, cluster=replace(view.cluster, networks=networks)), Memory())
    assert [problem.subject for problem in made.problems if "interpreted" in problem.text] == [
        "network odd"
    ]
    assert any(isinstance(obj, Bird) for obj in made.state.values())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_record_that_surprises_its_parser_is_a_problem_of_its_key(table: Any) -> None:
    def surprised(_: object) -> Any:
        raise RuntimeError("secret")

    where = Place(replace(table, parse=surprised), "h1")
    value, problem = read(where, "/some/key", b"{}")
    assert value is None
    assert problem is not None
    assert problem.subject == "key /some/key"
    assert "RuntimeError at tests." in problem.text
    assert "secret" not in problem.text
