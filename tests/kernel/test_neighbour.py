"""Permanent neighbours of links that are ours."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from netloom.model.kernel import Neighbour
from netloom.reconcile.contracts import Verb

BOTH = pytest.mark.parametrize("text", ["10.244.2.0", "fd00:2::"])


@pytest.fixture
def of_flannel1(add, flannel1):
    add(flannel1)
    return lambda text: Neighbour("flannel.1", ipaddress.ip_address(text), "02:aa:00:00:00:63")


def shown(host):
    return {n["dst"]: n for n in host.json("ip", "-j", "neigh", "show", "dev", "flannel.1")}


@BOTH
def test_a_neighbour_is_permanent_and_reads_back(host, add, of_flannel1, standing, text):
    wanted = of_flannel1(text)
    add(wanted)
    assert shown(host)[text]["lladdr"] == "02:aa:00:00:00:63"
    assert shown(host)[text]["state"] == ["PERMANENT"]
    assert standing("neighbour") == {wanted.key: wanted}


@BOTH
def test_what_the_kernel_learned_gives_way(host, add, of_flannel1, standing, text):
    """An entry that is no one's must not be in the way for ever."""
    wanted = of_flannel1(text)
    host.sh(f"ip neigh add {text} lladdr 02:00:00:00:00:99 dev flannel.1 nud stale")
    assert standing("neighbour") == {}
    add(wanted)
    assert standing("neighbour") == {wanted.key: wanted}


@BOTH
def test_a_neighbour_gets_another_mac_in_one_step(attempt, of_flannel1, standing, add, text):
    wanted = of_flannel1(text)
    add(wanted)
    moved = replace(wanted, mac="02:aa:00:00:00:64")
    assert attempt(Verb.REPLACE, (moved, wanted)) == [None]
    assert standing("neighbour") == {wanted.key: moved}


@BOTH
def test_deleting_a_neighbour_is_safe_to_repeat(host, add, attempt, of_flannel1, standing, text):
    wanted = of_flannel1(text)
    add(wanted)
    assert attempt(Verb.DELETE, wanted) == [None]
    assert standing("neighbour") == {}
    assert attempt(Verb.DELETE, wanted) == [None]
    host.sh("ip link delete flannel.1")
    assert attempt(Verb.DELETE, wanted) == [None]


def test_neighbours_of_links_that_are_not_ours_are_not_read(host, standing):
    host.sh("ip neigh add 192.168.31.99 lladdr 02:00:00:00:00:99 dev ens33 nud permanent")
    assert standing("neighbour") == {}
