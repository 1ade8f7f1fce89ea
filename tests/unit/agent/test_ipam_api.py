"""The local API's audit and release: what is asked, refused and answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from tests.unit.memory_store import MemoryStore

from netloom.agent.addresses import AddressBook
from netloom.agent.contracts import Request
from netloom.agent.ipam_api import Audit, routes
from netloom.agent.mirror import Mirror
from netloom.core.ipam.audit import Live
from netloom.core.ipam.supply import Supply
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig, Unavailable
from netloom.model.host import Block, Host
from netloom.model.keys import JOURNAL_ENDPOINTS, endpoint_key
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster

NETWORK = Network("blue", (Pool(ip_network("10.244.0.0/16"), 24),))
BLOCK = Block("blue", ip_network("10.244.0.0/24"), "h1", True)
CLUSTER = Cluster(
    networks={"blue": NETWORK},
    hosts={"h1": Host("h1", "h1")},
    blocks={("blue", BLOCK.cidr): BLOCK},
)


class Agent:
    """A book, a store, and containers that a test brings and takes away."""

    def __init__(self) -> None:
        self.journal = MemoryStore()
        self.store = MemoryStore()
        self.book = AddressBook(self.journal, now=lambda: "2026-01-01T10:00:00+00:00")
        self.time = datetime(2026, 1, 1, 10, 1, tzinfo=UTC)
        self.live: dict[str, Live] = {}
        self.cluster: Cluster | None = CLUSTER
        self.while_looking: Callable[[], object] = lambda: None
        self.away = False
        self.mirror = Mirror(self.book, "h1")
        self.copied: Callable[[], object] = lambda: None
        audit = Audit(
            "h1",
            self.book,
            lambda: self.cluster,
            self._require,
            self._look,
            lambda: self.time,
            lambda: self.copied() and None,
        )
        self.routes = routes(self.book, audit, lambda each: self.book.release(each.handle))

    def _require(self) -> Store:
        if self.away:
            raise Unavailable("no answer")
        return self.store

    def _look(self, endpoints: tuple[Endpoint, ...]) -> tuple[Live, ...]:
        handles = {each.handle for each in endpoints}
        found = tuple(
            Live(each.handle if each.handle in handles else "", "blue", "x", each.addresses)
            for each in self.live.values()
        )
        self.while_looking()
        return found

    def attach(self, container: str, *, confirmed: bool = True) -> Endpoint:
        draft = Endpoint(
            *("blue", "h1", container, "eth0", "/run/netns/x", "veth1", "02:00:00:00:00:01"), ()
        )
        endpoint = self.book.reserve(draft, Supply(NETWORK, "h1", (BLOCK,)))
        self.live[endpoint.handle] = Live(endpoint.handle, "blue", "x", endpoint.addresses)
        return self.book.confirm(endpoint.handle) if confirmed else endpoint

    def detach(self, endpoint: Endpoint) -> None:
        del self.live[endpoint.handle]
        self.book.release(endpoint.handle)

    def audit(self) -> dict[str, Any]:
        data: dict[str, Any] = self.routes[("GET", "/v1/ipam/audit")](Request("GET", "/")).data
        return json.loads(json.dumps(data))

    def kinds(self) -> list[str]:
        return [finding["kind"] for finding in self.audit()["findings"]]

    def release(self, **document: object) -> list[dict[str, Any]]:
        body = json.dumps(document).encode()
        handler = self.routes[("POST", "/v1/ipam/release")]
        released: list[dict[str, Any]] = handler(Request("POST", "/", body=body)).data["released"]
        return released


@pytest.fixture
def agent() -> Agent:
    return Agent()


def test_a_host_that_is_well_has_no_findings(agent: Agent) -> None:
    agent.attach("one")
    Mirror(agent.book, "h1").sync_once(agent.store)
    assert agent.audit() == {"host": "h1", "endpoints": 1, "unjudged": [], "findings": []}


def test_a_leak_is_found_and_released_by_its_handle(agent: Agent) -> None:
    one = agent.attach("one")
    del agent.live[one.handle]
    (finding,) = agent.audit()["findings"]
    assert (finding["kind"], finding["handle"]) == ("leak", one.handle)
    (released,) = agent.release(handle=one.handle)
    assert released["addresses"] == ["10.244.0.0"]
    assert agent.kinds() == []
    assert agent.release(handle=one.handle) == [], "safe to repeat"


def test_a_live_container_is_released_by_force_alone(agent: Agent) -> None:
    one = agent.attach("one")
    with pytest.raises(Conflict, match="is no leak") as error:
        agent.release(ip="10.244.0.0")
    assert "--force" in error.value.hint
    assert agent.book.get(one.handle) is not None
    assert len(agent.release(ip="10.244.0.0", force=True)) == 1


def test_an_intent_counts_as_a_leak_once_its_time_is_over(agent: Agent) -> None:
    intent = agent.attach("one", confirmed=False)
    del agent.live[intent.handle]
    assert agent.kinds() == []
    agent.time = datetime(2026, 1, 1, 10, 6, tzinfo=UTC)
    assert agent.kinds() == ["leak"]


def test_a_container_that_comes_while_we_look_is_neither_leak_nor_stranger(agent: Agent) -> None:
    agent.attach("old")
    agent.while_looking = lambda: agent.attach(f"new{agent.book.version}")
    assert agent.kinds() == []
    assert agent.kinds() == []


def test_a_container_that_goes_while_we_look_is_neither_leak_nor_stranger(agent: Agent) -> None:
    one = agent.attach("one")
    agent.while_looking = lambda: agent.book.release(one.handle)
    assert agent.kinds() == []


def test_a_container_that_goes_while_we_look_is_not_missed_in_the_mirror(agent: Agent) -> None:
    """The store shows it, the journal not any more: the next copy puts that right."""
    one = agent.attach("one")
    agent.mirror.sync_once(agent.store)
    agent.while_looking = lambda: agent.book.release(one.handle)
    assert agent.kinds() == []


def test_what_the_agent_is_about_to_copy_is_waited_for(agent: Agent) -> None:
    """Who has just freed an address and checks at once is told that all is well."""
    one = agent.attach("one")
    agent.mirror.sync_once(agent.store)
    agent.detach(one)
    agent.copied = lambda: agent.mirror.sync_once(agent.store)
    assert agent.kinds() == []


def test_with_the_store_away_the_host_itself_is_judged_and_it_says_what_is_not(
    agent: Agent,
) -> None:
    one = agent.attach("one")
    del agent.live[one.handle]
    agent.away = True
    answer = agent.audit()
    assert [finding["kind"] for finding in answer["findings"]] == ["leak"]
    assert answer["unjudged"] == ["what other hosts hold: the cluster store is away (no answer)"]


def test_without_a_picture_of_the_cluster_blocks_are_not_judged(agent: Agent) -> None:
    agent.attach("one")
    agent.cluster = None
    answer = agent.audit()
    assert answer["findings"] == []
    assert "no picture" in answer["unjudged"][0]


def test_what_other_hosts_hold_is_compared(agent: Agent) -> None:
    agent.attach("one")
    twin = Endpoint(
        *("blue", "h2", "twin", "eth0", "", "v", "02:00:00:00:00:01"),
        addresses=(ip_address("10.244.0.0"),),
    )
    puts = [
        Put(endpoint_key("h2", "blue", "twin", "eth0"), json.dumps(twin.render()).encode()),
        Put(endpoint_key("h2", "blue", "bad", "eth0"), b"{rubbish"),
    ]
    agent.store.commit(Transaction(puts))
    assert agent.kinds().count("duplicate") == 2


def test_a_record_that_does_not_parse_is_found_and_can_be_released(agent: Agent) -> None:
    key = f"{JOURNAL_ENDPOINTS}blue/bad/eth0"
    agent.journal.commit(Transaction([Put(key, b'{"addresses": ["10.244.0.9"]}')]))
    broken = Agent()
    broken.journal = agent.journal
    broken.book = AddressBook(agent.journal)
    broken.routes = routes(
        broken.book,
        Audit("h1", broken.book, lambda: CLUSTER, broken._require, broken._look),
        lambda each: None,
    )
    assert broken.kinds() == ["unreadable"]
    broken.release(handle="blue.bad.eth0")
    assert agent.journal.get(key) is None
    assert AddressBook(agent.journal).problems() == ()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "either a handle or an ip"),
        ({"handle": "x", "ip": "10.244.0.0"}, "either a handle or an ip"),
        ({"ip": "rubbish"}, "not an IP address"),
        ({"ip": "10.244.0.77"}, "is not held on this host"),
        ({"handel": "x"}, "unknown field"),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    agent: Agent, document: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidConfig, match=says):
        agent.release(**document)


def test_a_request_that_is_not_json_is_refused(agent: Agent) -> None:
    with pytest.raises(InvalidConfig, match="not JSON"):
        agent.routes[("POST", "/v1/ipam/release")](Request("POST", "/", body=b"{"))
