"""Whether the kernel's neighbour tables have room for a segment's hosts."""

from __future__ import annotations

import ipaddress
import re

import pytest
from tests.unit.views import ip

from netloom.core.neighbour_room import on_segment, shortage
from netloom.model.addr import Family


def test_hosts_of_other_segments_and_families_do_not_count() -> None:
    own = [ipaddress.ip_interface("192.168.26.71/24"), ipaddress.ip_interface("fd00::71/64")]
    peers = [ip("192.168.26.72"), ip("192.168.26.73"), ip("192.168.30.72"), ip("fd00::72")]
    assert on_segment(own, [*peers, *peers], 4) == 2
    assert on_segment(own, peers, 6) == 1
    assert on_segment(own[:1], peers, 6) == 0


@pytest.mark.parametrize(
    ("limit", "hosts", "containers", "well"),
    [(1024, 0, 0, True), (1024, 400, 112, True), (1024, 400, 113, False), (1024, 513, 0, False),
     (8192, 4096, 0, True), (16, 9, 0, False)],
)  # fmt: skip
def test_a_table_is_large_enough_when_half_of_it_is(
    limit: int, hosts: int, containers: int, well: bool
) -> None:
    assert (shortage(4, limit, hosts, containers) is None) == well


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("limit", "hosts"), [(1024, 600), (16, 9), (2048, 3000)])
def test_the_remedy_is_one(family: Family, limit: int, hosts: int) -> None:
    """What it says to set is large enough, also for as many hosts again."""
    problem = shortage(family, limit, hosts, 20)
    assert problem is not None
    assert f"gc_thresh3 is {limit}" in problem.text
    assert f"{hosts} hosts" in problem.text
    asked = dict(
        re.findall(rf"net\.ipv{family}\.neigh\.default\.(gc_thresh\d)=(\d+)", problem.remedy)
    )
    assert shortage(family, int(asked["gc_thresh3"]), 2 * hosts, 40) is None
    assert int(asked["gc_thresh2"]) < int(asked["gc_thresh3"])
