"""What a host's registration does about blocks that an earlier run left half claimed."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from netloom.agent.registration import Registration
from netloom.model.datastore import Put, Transaction
from netloom.model.host import Block
from netloom.model.keys import CLUSTER, block_key, network_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster, HostFacts
from netloom.reconcile import cluster as fold
from netloom.reconcile.claim_entries import list_claims
from netloom.store.sqlite import SqliteStore


@pytest.mark.parametrize("mode", ["host-block", "on-demand"])
def test_a_block_left_pending_is_confirmed_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, mode: str
) -> None:
    store = SqliteStore(str(tmp_path_factory.mktemp("store") / "cluster.db"))
    network = Network("blue", (Pool(ip_network("10.244.0.0/16"), 24),), Addressing(mode, 20))
    pending = Block("blue", ip_network("10.244.7.0/24"), "h1")
    foreign = Block("blue", ip_network("10.244.8.0/24"), "h2")
    puts = [Put(network_key("blue"), json.dumps(network.render()).encode())]
    puts += [
        Put(block_key("blue", block.cidr), json.dumps(block.render()).encode())
        for block in (pending, foreign)
    ]
    store.commit(Transaction(puts))
    picture = fold.from_listing(store.list(CLUSTER), store.store_id, Cluster())
    registration = Registration("h1", "h1", lambda: 0.0)
    registration.sync(store, picture, HostFacts(), ())
    states = {
        str(each.cidr): each.block.confirmed for each in list_claims(store, "blue") if each.block
    }
    assert states == {"10.244.7.0/24": True, "10.244.8.0/24": False}
    store.close()
