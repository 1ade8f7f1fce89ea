"""Pinging many addresses at once, between real namespaces."""

from __future__ import annotations

import os
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from netloom.kernel.echo import echo
from netloom.kernel.namespaces import in_namespace
from netloom.model.errors import NotPermitted

FAR4, FAR6 = ip_address("192.168.31.63"), ip_address("fd31::63")
NOBODY = ip_address("192.168.31.99")
NO_ROUTE = ip_address("203.0.113.1")


def test_both_families_are_answered_with_a_round_trip(two_hosts: tuple[Any, Any]) -> None:
    near, _ = two_hosts
    found = near.call(lambda: echo([FAR4, FAR6], patience_s=20))
    assert {address for address, one in found.items() if one.rtt_ms is not None} == {FAR4, FAR6}


def test_who_does_not_answer_is_told_from_who_has_no_route(two_hosts: tuple[Any, Any]) -> None:
    near, _ = two_hosts
    found = near.call(lambda: echo([FAR4, NO_ROUTE], patience_s=60))
    assert found[FAR4].rtt_ms is not None
    found |= near.call(lambda: echo([NOBODY, NO_ROUTE], patience_s=0.6))
    assert (found[NOBODY].rtt_ms, found[NOBODY].reason) == (None, "no answer")
    assert (found[NO_ROUTE].rtt_ms, found[NO_ROUTE].reason) == (None, "Network is unreachable")


def test_a_first_packet_that_is_lost_is_sent_again(two_hosts: tuple[Any, Any]) -> None:
    """The far side lets a request pass only after it has dropped one."""
    near, far = two_hosts
    far.run("nft", "add table inet t")
    far.run("nft", "add chain inet t in { type filter hook input priority 0; }")
    far.run(
        "nft",
        "add rule inet t in icmp type echo-request limit rate over 1/day burst 1 packets accept",
    )
    far.run("nft", "add rule inet t in icmp type echo-request drop")
    found = near.call(lambda: echo([FAR4], patience_s=60, rounds=100))
    assert found[FAR4].rtt_ms is not None


def test_many_at_once_do_not_take_each_others_answers(two_hosts: tuple[Any, Any]) -> None:
    near, far = two_hosts
    for number in range(100, 150):
        far.run("ip", "address", "add", f"192.168.31.{number}/24", "dev", "ens33")
    there = [ip_address(f"192.168.31.{number}") for number in range(100, 150)]
    elsewhere = [ip_address(f"203.0.113.{number}") for number in range(10)]
    results: list[set[Any]] = []

    def ask() -> None:
        found = in_namespace(near.path, lambda: echo([*there, *elsewhere], patience_s=60))
        results.append({a for a, one in found.items() if one.rtt_ms is not None})

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == [set(there)] * 4


def test_without_the_right_the_refusal_says_which(two_hosts: tuple[Any, Any]) -> None:
    def as_nobody() -> None:
        os.seteuid(65534)
        try:
            echo([FAR4])
        finally:
            os.seteuid(0)

    with pytest.raises(NotPermitted, match="CAP_NET_RAW"):
        as_nobody()
