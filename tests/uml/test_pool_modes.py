"""``ipipMode`` and ``vxlanMode`` of a pool, patched by calicoctl's users while containers talk."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.scenes.bgp_lab import document
from tests.uml.test_moves import TUNNEL, follow, leads

from netloom.lab.lab import Lab
from netloom.lab.place import CommandFailed
from netloom.lab.processes import myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

POOL = {"cidr": "10.233.0.0/16", "blockSize": 26, "name": "one"}
#: What is patched in turn, and how the route then ends.
MODES = [
    ({"ipipMode": "Always"}, TUNNEL),
    ({"ipipMode": "CrossSubnet"}, "dev ens32 proto 78"),
    ({"ipipMode": "Never", "vxlanMode": "Always"}, "proto 78 onlink"),
]
BGP_ALONE, BGPS_WAY = {"vxlanMode": "Never"}, "dev ens32 proto bird"
PATCH = ["calicoctl", "patch", "ippool", "one", "-p"]
MODE_COLUMNS = ["-o", "custom-columns=IPIPMODE,VXLANMODE"]
BOTH = '{"spec": {"ipipMode": "Always", "vxlanMode": "CrossSubnet"}}'


@pytest.fixture
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Two hosts that route by BGP, with one pool."""
    with Lab.up(document((100, 101), pools=[POOL]), name=next(lab_names), owner=myself()) as made:
        yield made


def test_a_pool_goes_from_mode_to_mode_and_no_packet_is_lost(lab: Lab) -> None:
    one, two = lab.hosts
    a, b = one.run("a"), two.run("b")
    (block,) = two.blocks()
    wait_until(lambda: leads(one, block, BGPS_WAY), deadline_s=60, what="BIRD's route")
    with Pings(a, b.address, 0.01) as pings:
        for spec, way in MODES:
            follow(lab, [*PATCH, json.dumps({"spec": spec})], way)
        with pytest.raises(CommandFailed) as caught:
            one.exec([*PATCH, BOTH])
        assert (caught.value.code, "exclude each other" in caught.value.output) == (3, True)
        shown = one.exec(["calicoctl", "get", "ippools", *MODE_COLUMNS]).split()
        assert shown == ["IPIPMODE", "VXLANMODE", "Never", "Always"]
        follow(lab, [*PATCH, json.dumps({"spec": BGP_ALONE})], BGPS_WAY)
    assert pings.lost == 0
    assert pings.sent > 100
