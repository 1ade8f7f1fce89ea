"""What the kernel says of a change in a namespace, as repairs are timed by it."""

from __future__ import annotations

import os
import time

import pytest
from tests.conftest import Netns

from netloom.lab.notices import Notices
from netloom.lab.place import Place

GATEWAY = "10.9.1.0"
PERMANENT = f"{GATEWAY} lladdr 02:00:00:00:00:01 dev vx0 nud permanent"


@pytest.fixture
def place(netns: Netns) -> Place:
    """A place with a tunnel device and a peer's neighbour on it."""
    for line in (
        "ip link add vx0 type vxlan id 5 dstport 8472 nolearning local 127.0.0.1",
        "ip link set vx0 up",
        f"ip neigh replace {PERMANENT}",
    ):
        netns.sh(line)
    return Place("here", netns.name, dict(os.environ))


@pytest.mark.parametrize(
    "damage", [f"ip neigh del {GATEWAY} dev vx0", f"ip neigh change {GATEWAY} dev vx0 nud failed"]
)
def test_a_neighbour_is_lost_when_it_goes_and_when_it_is_permanent_no_more(
    place: Place, damage: str
) -> None:
    """One that a packet wants while it is deleted stays, unresolved, and no DELNEIGH comes."""
    key = f"neighbour {GATEWAY} dev vx0"
    with Notices(place) as notices:
        place.exec(damage.split())
        place.exec(f"ip neigh replace {PERMANENT}".split())
        end = time.monotonic() + 30
        told: list[bool] = []
        while not told or told[-1]:
            notice = notices.next(end)
            if notice.key == key:
                told.append(notice.lost)
    assert told[0], "the loss comes first"
