"""Two hosts at one address: each says so and names both, and who had it first keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.views import facts, host, ip

from netloom.agent.own_part import GONE_S
from netloom.agent.registration import KEEP_ALIVE_S, Registration
from netloom.model.datastore import Delete, Put, Store, Transaction
from netloom.model.host import Host
from netloom.model.keys import CLUSTER, alive_key, host_key
from netloom.model.view import Cluster, HostFacts
from netloom.reconcile import cluster as fold
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.flannel.layout import Format
from netloom.store.sqlite import SqliteStore

TWIN = ip("192.168.31.62")
HERE = facts(f"{TWIN}/24")
ALSO = f"underlay address {TWIN} is also host"
FIRST = ", which had it first: no host sends to this one there"


class Hosts:
    """Agents of several hosts on one store; ``now_s`` is their clock, which goes on by itself."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = 0.0
        self._agents: dict[str, Registration] = {}

    def _clock(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def picture(self) -> Cluster:
        return fold.from_listing(self.store.list(CLUSTER), self.store.store_id)

    def sync(
        self,
        host_id: str,
        where: HostFacts = HERE,
        seen: Cluster | None = None,
        *,
        called: str = "",
    ) -> Host:
        """Let a host's agent do its part; return what the store says of the host."""
        new = Registration(host_id, called or host_id, self._clock)
        agent = self._agents.setdefault(host_id, new)
        agent.sync(self.store, seen or self.picture(), where, ())
        return self.picture().hosts[host_id]

    def told(self, host_id: str) -> list[str]:
        return [problem.text for problem in self._agents[host_id].problems]

    def forget_agents(self) -> None:
        """All agents end and start anew."""
        self._agents.clear()

    def end(self, host_id: str) -> None:
        """The host's agent runs no longer; its record stays."""
        self.store.commit(Transaction([Delete(alive_key(host_id))]))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    store = SqliteStore(str(tmp_path / "cluster.db"))
    yield Hosts(store)
    store.close()


@pytest.mark.parametrize(("first", "later"), [("h1", "h2"), ("h2", "h1")])
def test_who_comes_later_does_not_get_the_address_and_both_say_so(
    hosts: Hosts, first: str, later: str
) -> None:
    hosts.sync(first)
    one = hosts.sync(later)
    assert (one.underlay4, one.contested) == (None, (TWIN,))
    assert hosts.told(later) == [f"{ALSO} {first}'s ({first}){FIRST}"]
    assert hosts.sync(first).underlay4 == TWIN
    assert hosts.told(first) == [f"{ALSO} {later}'s ({later})"]
    assert hosts.sync(later) == one, "and so it stays"


def test_the_remedy_names_what_to_do_about_either(hosts: Hosts) -> None:
    hosts.sync("h1")
    hosts.sync("h2")
    (problem,) = hosts._agents["h2"].problems
    assert (problem.severity, problem.subject) == ("error", "host h2")
    assert "give each host its own address" in problem.remedy
    assert "netloom host forget h1" in problem.remedy


def test_a_lease_that_ended_is_told_and_needs_nobody(hosts: Hosts) -> None:
    """A store that was away for longer than a lease lives, and is back: all is well."""
    hosts.sync("h1")
    hosts.store.revoke(hosts._agents["h1"]._lease)
    hosts.now_s += KEEP_ALIVE_S
    hosts.sync("h1")
    (problem,) = hosts._agents["h1"].problems
    assert "is granted anew" in problem.text
    assert not problem.needs_a_person


def test_it_heals_when_one_of_them_has_another_address(hosts: Hosts) -> None:
    hosts.sync("h1")
    hosts.sync("h2")
    assert hosts.sync("h2", facts("192.168.31.99/24")).underlay4 == ip("192.168.31.99")
    hosts.sync("h1")
    assert hosts.told("h1") == hosts.told("h2") == []
    hosts.sync("h2")
    hosts.sync("h1", facts("192.168.31.98/24"))
    assert (hosts.sync("h2").underlay4, hosts.told("h2")) == (TWIN, [])


@pytest.mark.parametrize("order", [("h1", "h2"), ("h2", "h1")])
def test_of_two_that_came_at_once_the_one_with_the_lesser_id_has_it(
    hosts: Hosts, order: tuple[str, str]
) -> None:
    """Neither saw the other: each had an empty picture."""
    for name in order:
        hosts.sync(name, seen=Cluster())
    for name in reversed(order):
        hosts.sync(name)
    found = hosts.picture().hosts
    assert (found["h1"].underlay4, found["h2"].underlay4) == (TWIN, None)


def test_one_that_runs_no_longer_loses_it_after_a_while_and_not_at_an_upgrade(
    hosts: Hosts,
) -> None:
    hosts.sync("h1")
    hosts.end("h1")
    assert hosts.sync("h2").underlay4 is None
    hosts.now_s += GONE_S / 2
    assert hosts.sync("h2").underlay4 is None
    hosts.now_s += GONE_S
    assert hosts.sync("h2").underlay4 == TWIN


def test_the_record_of_a_host_that_is_gone_takes_nothing_from_who_has_its_address(
    hosts: Hosts,
) -> None:
    """Nor when the agent of the one that is there starts anew, and knows nothing of how long."""
    hosts.sync("h1")
    hosts.end("h1")
    hosts.sync("h2")
    hosts.now_s += GONE_S
    hosts.sync("h2")
    hosts.forget_agents()
    assert hosts.sync("h2").underlay4 == TWIN
    assert hosts.told("h2") == [f"{ALSO} h1's (h1)"], "it is told all the same"


def test_who_lost_it_from_his_card_leaves_it_to_who_has_it(hosts: Hosts) -> None:
    """An address that was moved: the former host keeps it for a return, but not against another."""
    hosts.sync("h1")
    hosts.sync("h2")
    one = hosts.sync("h1", replace(HERE, lost=frozenset({4})))
    assert (one.underlay4, one.contested) == (None, (TWIN,))
    assert hosts.sync("h2").underlay4 == TWIN


def test_only_the_family_that_is_shared_is_given_up(hosts: Hosts) -> None:
    hosts.sync("h1")
    one = hosts.sync("h2", facts(f"{TWIN}/24", "fd00::2/64"))
    assert (one.underlay4, one.underlay6) == (None, ip("fd00::2"))


def test_beside_flannels_daemons_it_is_told_and_the_lease_stays_as_it_is(tmp_path: Path) -> None:
    """A lease of theirs always names an address, and a daemon that we replace had ours."""
    store = FlannelStore(SqliteStore(str(tmp_path / "etcd.db")), Format("/coreos.com/network"))
    other = host("h2", str(TWIN))
    put = Put(host_key("h2"), json.dumps(other.render()).encode())
    store.commit(Transaction([put]))
    hosts = Hosts(store)
    assert hosts.sync("h1").underlay4 == TWIN
    assert hosts.told("h1") == [f"{ALSO} h2's (h2)"]
    store.close()


def test_two_running_hosts_of_one_name_are_told_and_one_that_is_gone_is_not(hosts: Hosts) -> None:
    """A resource that names a host means both; a machine that was set up anew is no rival."""
    for address, host_id in enumerate(("h1", "h2", "h1")):
        hosts.sync(host_id, facts(f"192.168.31.{address % 2 + 1}/24"), called="db.example.org")
    for mine, other in (("h1", "h2"), ("h2", "h1")):
        hosts.sync(mine, facts(f"192.168.31.{mine[1]}/24"))
        (text,) = hosts.told(mine)
        assert text.startswith(f"another running host has this name, too ({other})")
    hosts.end("h2")
    hosts.sync("h1", facts("192.168.31.1/24"))
    assert hosts.told("h1") == []
