"""Blocks that no network has in a pool: found, kept while they are in use, and gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .test_draining import apply, deals_of, gone
from .test_ipam_lab import ipam, mirrored

LabUp = Callable[..., Lab]
TWO_POOLS = {
    "name": "default",
    "preset": "flannel",
    "pools": ["10.244.0.0/16", "10.245.0.0/16"],
}


def orphans(lab: Lab) -> list[str]:
    found = ipam(lab.hosts[0], "check", "-o", "json").data["findings"]
    return sorted(each["subject"] for each in found if each["kind"] == "orphan-block")


def test_a_pool_that_was_removed_while_a_host_was_away_costs_no_container_and_leaves_no_block(
    lab_up: LabUp,
) -> None:
    lab = lab_up(default_document(hosts=2, network=TWO_POOLS))
    one, two = lab.hosts
    for host in lab.hosts:
        deals_of(host, "10.245.0.0/16", 24)
    a, b = one.run("a"), two.run("b")
    empty = next(block for block in two.blocks() if block.startswith("10.245."))
    used = next(block for block in two.blocks() if block.startswith("10.244."))
    wait_until(lambda: a.pings(b.address), deadline_s=60, what="a reaches b")
    wait_until(lambda: mirrored(one, b.address), deadline_s=60, what="b in the store")
    lab.fault("h2", "kill-agent")
    pools = ("pools[1]=10.246.0.0/16", "pools[0]=10.247.0.0/16")
    refused = one.popen(["netloom", "network", "set", "default", *pools], stdout=-1, stderr=-1)
    assert "would be in no pool any more" in refused.communicate(timeout=60)[1]
    with Pings(a, b.address, 0.01) as pings:
        apply(one, "network", "set", "default", *pools, "--force")
        wait_until(
            lambda: {empty, used} <= set(orphans(lab)), deadline_s=60, what="what is in no pool now"
        )
        said = ipam(one, "release", "--block", used, "--yes")
        assert (said.code, "is in use by default." in said.err) == (4, True)
        two.start_agent()
        for block in (empty, "10.245.0.0/24", "10.245.1.0/24"):
            gone(lab, block)
        c = two.run("c")
        assert c.address.split(".")[1] in ("246", "247")
        left = ["10.244.0.0/24", "10.244.1.0/24"]
        wait_until(lambda: orphans(lab) == left, deadline_s=60, what="those in use alone")
    assert pings.lost == 0
    one.remove("a")
    two.remove("b")
    for block in left:
        gone(lab, block)
    wait_until(lambda: ipam(one, "check").code == 0, deadline_s=60, what="no problem left")
    d = one.run("d")
    wait_until(lambda: c.pings(d.address), deadline_s=60, what="c reaches d")
