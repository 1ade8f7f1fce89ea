"""The matrix as it is printed; the pings themselves are tests/kernel's."""

from __future__ import annotations

import os
from ipaddress import ip_address

import pytest

from netloom.cli.ping import Answer, Point, screen
from netloom.kernel.echo import Echo

H1, H2, WEB = (
    Point("h1", (ip_address("192.168.31.62"),), ""),
    Point("h2", (ip_address("192.168.31.63"),)),
    Point("h2/web", (ip_address("10.244.2.2"),)),
)


def test_the_matrix_names_who_cannot_be_reached_and_why() -> None:
    answers = [
        Answer("h1", "h2", Echo(H2.addresses[0], 0.064)),
        Answer("h1", "h2/web", Echo(WEB.addresses[0], None, "no answer")),
    ]
    assert screen([H1, H2, WEB], answers).splitlines() == [
        "FROM \\ TO  h1             h2             h2/web",
        "           192.168.31.62  192.168.31.63  10.244.2.2",
        "h1         -              0.06 ms        NO",
        "",
        "1 of 2 reached",
        "h1 -> h2/web 10.244.2.2: no answer",
    ]


def test_many_columns_are_numbered_and_none_is_cut() -> None:
    points = [Point(f"host-number-{n}", (ip_address(f"10.0.0.{n}"),), "") for n in range(1, 30)]
    answers = [
        Answer(a.name, b.name, Echo(b.addresses[0], 1.0))
        for a in points
        for b in points
        if a is not b
    ]
    text = screen(points, answers)
    assert "[29]  host-number-29 10.0.0.29" in text
    assert f"{29 * 28} of {29 * 28} reached" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to open raw sockets")
def test_an_empty_cluster_has_nobody_to_ping(netloom, store, tmp_path) -> None:
    said = netloom("ping", "--state-dir", str(tmp_path))
    assert (said.code, said.out.startswith("nobody to ping")) == (6, True)
