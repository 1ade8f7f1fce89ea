"""An attach may be ahead of the watch: what the store has is waited for, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from itertools import chain, repeat

from tests.unit.memory_store import MemoryStore

from netloom.agent.surroundings import Surroundings
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.errors import Unavailable
from netloom.model.host import Host
from netloom.model.keys import network_key
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster

BLUE = Network("blue", (Pool(ip_network("10.244.0.0/16"), 24),))
OLD, NEW = Cluster(1), Cluster(2, networks={"blue": BLUE})


def around(pictures: Iterator[Cluster | None], store: Callable[[], Store]) -> Surroundings:
    host = Host("h1", "h1")
    return Surroundings(
        host, lambda: next(pictures), store, lambda name: (), lambda block: None, lambda peer: []
    )


def with_blue() -> Store:
    store = MemoryStore()
    value = json.dumps(BLUE.render()).encode()
    store.commit(Transaction([Put(network_key("blue"), value)]))
    return store


def test_a_network_that_the_watch_has_yet_to_bring_is_waited_for() -> None:
    store = with_blue()
    found = around(chain(repeat(OLD, 5), repeat(NEW)), lambda: store).picture_with("blue")
    assert found is NEW


def test_a_network_that_is_nowhere_is_not_waited_for() -> None:
    store = with_blue()
    assert around(iter([OLD]), lambda: store).picture_with("red") is OLD
    assert around(iter([OLD]), lambda: store).picture_with("no/name") is OLD


def test_with_the_store_away_the_picture_has_to_do() -> None:
    def away() -> Store:
        raise Unavailable("no answer")

    assert around(iter([OLD]), away).picture_with("blue") is OLD
    assert around(iter([NEW]), away).picture_with("blue") is NEW
    assert around(iter([None]), away).picture_with("blue") is None
