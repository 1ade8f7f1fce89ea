"""A neighbour table that is too small, in a kernel whose limits a test may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from netloom.core.neighbour_room import setting
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab

LabUp = Callable[..., Lab]
LIMIT = Path("/proc/sys/net", setting(4))


def test_checksystem_warns_of_a_table_that_is_too_small_for_the_segment(lab_up: LabUp) -> None:
    lab = lab_up(default_document(3))
    h1 = lab.host("h1")
    before = LIMIT.read_text()
    try:
        said = h1.exec(["netloom", "node", "checksystem"], check=False)
        assert "neighbours IPv4" in said
        assert "OK: room for 1024, 2 hosts on the segment" in said
        LIMIT.write_text("3")
        said = h1.exec(["netloom", "node", "checksystem"], check=False)
    finally:
        LIMIT.write_text(before)
    lines = iter(said.splitlines())
    line = next(line for line in lines if "neighbours IPv4" in line)
    assert "SMALL: net.ipv4.neigh.default.gc_thresh3 is 3" in line
    assert "too few for 2 hosts on the segment" in line
    assert next(lines).startswith("    sysctl -w net.ipv4.neigh.default.gc_thresh2=512")
