"""``netloom network`` on a real datastore: what is written, what is refused before it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import yaml

from netloom.model import keys
from netloom.model.addr import parse_address, parse_network
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Host
from netloom.model.network import Network
from netloom.model.resource import Resource


def stored(store: Store, name: str) -> Network:
    entry = store.get(keys.network_key(name))
    assert entry is not None
    return Network.parse(json.loads(entry.value))


def endpoint(network: str, host: str, container: str) -> Endpoint:
    return Endpoint(
        network=network,
        host_id=host,
        container_id=container,
        ifname="eth0",
        netns="/run/netns/x",
        host_ifname="veth1",
        mac="02:00:00:00:00:01",
        addresses=(parse_address("10.244.1.2", "a"),),
        attached=True,
    )


def test_a_preset_gives_a_network_as_flannel_users_know_it(netloom: Callable, store: Store) -> None:
    assert netloom("network", "create", "blue", "--preset", "flannel").code == 0
    blue = stored(store, "blue")
    assert [str(pool.cidr) for pool in blue.pools] == ["10.244.0.0/16"]
    assert (blue.pools[0].block_size, blue.backend.type, blue.attachment.type) == (
        24,
        "vxlan",
        "bridge",
    )


def test_flags_win_over_the_file_and_the_file_over_the_preset(
    netloom: Callable, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("preset: flannel\nmtu: 1400\nbackend: {type: vxlan, vni: 7}\n")
    said = netloom("network", "create", "blue", "-f", str(path), "--mtu", "1300")
    assert said.code == 0, said.err
    blue = stored(store, "blue")
    assert (blue.mtu_bytes, blue.backend.options["vni"]) == (1300, 7)
    assert blue.backend.options.get("port") is None  # the file's backend, not the preset's
    assert str(blue.pools[0].cidr) == "10.244.0.0/16"


def test_a_network_from_flags_alone_in_both_families(netloom: Callable, store: Store) -> None:
    said = netloom(
        *("network", "create", "red", "--pool", "10.10.0.0/16", "--pool", "fd00:10::/56"),
        *("--block-size", "25", "--block-size", "122", "--backend", "host-gw"),
        *("--attach", "routed", "--set", "pools[0].natOutgoing=false"),
    )
    assert said.code == 0, said.err
    red = stored(store, "red")
    assert [(str(p.cidr), p.block_size, p.nat_outgoing) for p in red.pools] == [
        ("10.10.0.0/16", 25, False),
        ("fd00:10::/56", 122, True),
    ]
    assert (red.backend.type, red.attachment.type) == ("host-gw", "routed")


def test_a_pool_is_added_at_the_place_behind_the_last_and_taken_away_by_its_own(
    netloom: Callable, store: Store
) -> None:
    netloom("network", "create", "blue", "--preset", "calico")
    said = netloom("network", "set", "blue", "pools[1]=10.77.0.0/16", "pools[0].disabled=true")
    assert said.code == 0, said.err
    assert [(str(p.cidr), p.disabled) for p in stored(store, "blue").pools] == [
        ("192.168.0.0/16", True),
        ("10.77.0.0/16", False),
    ]
    assert netloom("network", "set", "blue", "pools[0]=").code == 0
    assert [str(p.cidr) for p in stored(store, "blue").pools] == ["10.77.0.0/16"]


def test_an_option_that_is_called_as_another_choices_type_is_an_option(
    netloom: Callable, store: Store
) -> None:
    """``mode`` says how a network deals addresses, and also which packets go into a tunnel."""
    netloom("network", "create", "blue", "--preset", "calico", "--backend", "ipip")
    said = netloom("network", "set", "blue", "backend.mode=CrossSubnet")
    assert said.code == 0, said.err
    assert stored(store, "blue").backend.render() == {"type": "ipip", "mode": "CrossSubnet"}


def test_a_pool_that_is_drained_is_told_and_so_are_its_blocks(
    netloom: Callable, put: Callable
) -> None:
    netloom("network", "create", "blue", "--preset", "calico")
    for cidr in ("192.168.0.0/26", "10.77.0.0/26"):
        held = Block("blue", parse_network(cidr, "cidr"), "h1", confirmed=True)
        put(keys.block_key("blue", held.cidr), held.render())
    netloom("network", "set", "blue", "pools[1]=10.77.0.0/16", "pools[0].disabled=true")
    said = netloom("network", "show", "blue").out
    assert "192.168.0.0/16, blocks of /26, source NAT for what leaves the pools, disabled" in said
    states = {line.split()[0]: line.split()[-1] for line in said.splitlines() if "/26 " in line}
    assert states["192.168.0.0/26"] == "draining"
    assert states["10.77.0.0/26"] == "confirmed"
    refused = netloom("network", "set", "blue", "pools[0]=")
    assert "disabled=true of the pool" in refused.err


def test_another_backend_than_the_presets_does_not_inherit_its_options(
    netloom: Callable, store: Store
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel", "--backend", "host-gw")
    assert dict(stored(store, "blue").backend.options) == {}


def test_what_show_prints_can_be_created_again(
    netloom: Callable, store: Store, tmp_path: Path
) -> None:
    netloom("network", "create", "blue", "--preset", "calico")
    before = stored(store, "blue")
    path = tmp_path / "net.yaml"
    path.write_text(netloom("network", "show", "blue", "-o", "yaml").out)
    assert yaml.safe_load(path.read_text())["name"] == "blue"
    assert netloom("network", "delete", "blue").code == 0
    assert netloom("network", "create", "blue", "-f", str(path)).code == 0
    assert stored(store, "blue") == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--preset", "flanel"], "did you mean 'flannel'?"),
        (["--preset", "flannel", "--backend", "vxlam"], "did you mean 'vxlan'?"),
        (["--preset", "flannel", "--attach", "bridg"], "did you mean 'bridge'?"),
        (["--preset", "flannel", "--set", "backend.vnii=3"], "did you mean 'vni'?"),
        (["--preset", "flannel", "--set", "backend.vni=99999999"], "out of range"),
        (["--preset", "flannel", "--set", "nonsense"], "is not key=value"),
        (["--preset", "flannel", "--set", "pools[7].cidr=1.0.0.0/8"], "no such place"),
        (["--preset", "flannel", "--block-size", "12"], "does not fit into the pool"),
        (["--preset", "flannel", "--block-size", "33"], "no IPv6 pool"),
        (["--pool", "fd00::/56", "--mtu", "1000"], "least MTU 1280 of IPv6"),
        (["--pool", "10.0.0.1/8"], "did you mean 10.0.0.0/8?"),
        (["--preset", "flannel", "--set", "addressing=ondemand"], "did you mean 'on-demand'?"),
        (["--preset", "flannel", "--set", "adressing=x"], "did you mean 'addressing'?"),
        (["--pool", "224.0.0.0/8"], "multicast"),
        (["--pool", "ff00::/16"], "multicast"),
        (["--pool", "127.0.0.0/16"], "loopback"),
        (["--pool", "169.254.0.0/16"], "link-local"),
        (["--pool", "fe80::/64"], "link-local"),
        (["--pool", "0.0.0.0/0"], "0.0.0.0/8"),
        (["--pool", "::/0"], "::/128"),
        ([], "a network needs at least one pool"),
        (["-f", "/does/not/exist"], "no such file"),
    ],
)
def test_a_bad_definition_is_refused_before_anything_is_written(
    netloom: Callable, store: Store, args: list[str], words: str
) -> None:
    said = netloom("network", "create", "blue", *args)
    assert said.code == 3, said.err
    assert words in said.err
    assert store.list(keys.ROOT).entries == ()


def test_a_network_that_cannot_be_read_is_told_with_the_remedy_and_not_as_no_network(
    netloom: Callable, put: Callable
) -> None:
    note = {"unreadable": "/x/config: not JSON, at line 2", "remedy": "check the braces there"}
    put(keys.network_key("blue"), note)
    said = netloom("network", "list")
    assert "/x/config: not JSON, at line 2\n  remedy: check the braces there" in said.err
    assert said.out == "no network that can be read\n"
    assert said.code == 3, "something is to be edited"


def test_a_dry_run_on_a_store_that_is_not_there_checks_all_and_makes_nothing(
    netloom: Callable, tmp_path: Path
) -> None:
    said = netloom("network", "create", "blue", "--preset", "flannel", "--dry-run")
    assert said.code == 0, said.err
    assert "is valid; nothing was written" in said.out
    assert netloom("network", "create", "blue", "--backend", "vxlna", "--dry-run").code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_the_network_and_writes_nothing(netloom: Callable, store: Store) -> None:
    said = netloom("network", "create", "blue", "--preset", "flannel", "--dry-run", "-o", "json")
    assert said.data["network"]["pools"][0]["cidr"] == "10.244.0.0/16"
    assert store.list(keys.ROOT).entries == ()


def test_a_name_that_is_taken_and_a_pool_that_overlaps_are_refused(netloom: Callable) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    assert netloom("network", "create", "blue", "--preset", "flannel").code == 4
    said = netloom("network", "create", "red", "--pool", "10.244.128.0/17")
    assert said.code == 3
    assert "of network blue" in said.err


def test_a_pool_that_holds_a_hosts_own_address_is_refused_by_name(
    netloom: Callable, put: Callable
) -> None:
    one = Host("1a", "h1", parse_address("192.168.31.62", "a"))
    put(keys.host_key("1a"), one.render())
    said = netloom("network", "create", "blue", "--pool", "192.168.0.0/16")
    assert said.code == 3
    assert "192.168.31.62 of host h1" in said.err


def test_set_changes_dotted_fields_and_tells_what_changed(netloom: Callable, store: Store) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    said = netloom("network", "set", "blue", "backend.directRouting=true", "mtu=1400", "-o", "json")
    assert {(c["field"], c["from"], c["to"]) for c in said.data["changes"]} == {
        ("backend.directRouting", None, True),
        ("mtu", 0, 1400),
    }
    blue = stored(store, "blue")
    assert (blue.backend.options["directRouting"], blue.backend.options["vni"]) == (True, 1)
    assert netloom("network", "set", "blue", "mtu=").code == 0
    assert stored(store, "blue").mtu_bytes == 0


@pytest.mark.parametrize("pair", ["backend=host-gw", "backend.type=host-gw"])
def test_the_backend_is_switched_with_its_options(
    netloom: Callable, store: Store, pair: str
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    assert netloom("network", "set", "blue", pair).code == 0
    assert stored(store, "blue").backend.render() == {"type": "host-gw"}


def test_setting_what_is_set_writes_nothing(netloom: Callable, store: Store) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    before = store.list(keys.ROOT)
    said = netloom("network", "set", "blue", "backend.vni=1")
    assert "is like that already" in said.out
    assert store.list(keys.ROOT) == before


def test_a_network_keeps_its_name_and_an_unknown_one_is_answered_with_the_nearest(
    netloom: Callable,
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    assert "keeps its name" in netloom("network", "set", "blue", "name=red").err
    said = netloom("network", "set", "bleu", "mtu=1400")
    assert (said.code, "did you mean 'blue'?" in said.err) == (3, True)


def test_a_pool_with_blocks_in_it_is_not_taken_away_unless_forced(
    netloom: Callable, put: Callable, store: Store
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    block = Block("blue", parse_network("10.244.1.0/24", "c"), "1a", True)
    put(keys.block_key("blue", block.cidr), block.render())
    move = ("network", "set", "blue", "pools[0].cidr=10.99.0.0/16")
    said = netloom(*move)
    assert (said.code, "10.244.1.0/24 of host 1a" in said.err) == (4, True)
    assert str(stored(store, "blue").pools[0].cidr) == "10.244.0.0/16"
    assert netloom(*move, "--force").code == 0


def test_delete_is_refused_while_containers_are_attached_and_leaves_nothing_when_forced(
    netloom: Callable, put: Callable, store: Store
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    for number in range(230):  # more than a store takes at once
        block = Block("blue", parse_network(f"10.244.{number}.0/24", "c"), "1a", True)
        put(keys.block_key("blue", block.cidr), block.render())
    inside = endpoint("blue", "1a", "c1")
    put(keys.endpoint_key("1a", "blue", "c1", "eth0"), inside.render())
    said = netloom("network", "delete", "blue")
    assert (said.code, "1 attached interface on 1a" in said.err) == (4, True)
    assert netloom("network", "delete", "blue", "--force", "--dry-run").code == 0
    assert store.get(keys.network_key("blue")) is not None
    assert netloom("network", "delete", "blue", "--force").code == 0
    assert [entry.key for entry in store.list(keys.ROOT).entries] == [keys.NETWORKS_GUARD]


def test_a_deletion_that_was_interrupted_is_done_to_its_end_when_it_is_repeated(
    netloom: Callable, put: Callable, store: Store
) -> None:
    """The definition goes first: else hosts claim anew what was just deleted."""
    held = Block("blue", parse_network("10.244.1.0/24", "c"), "1a", True)
    put(keys.block_key("blue", held.cidr), held.render())
    assert netloom("network", "delete", "red").code == 3
    assert netloom("network", "delete", "blue").code == 0
    assert [entry.key for entry in store.list(keys.ROOT).entries] == [keys.NETWORKS_GUARD]
    assert netloom("network", "delete", "blue").code == 3


def test_of_many_that_create_overlapping_networks_at_once_exactly_one_wins(
    netloom: Callable, url: str
) -> None:
    """Each writes another key; what they check against each other must hold at the commit."""
    command = [sys.executable, "-m", "netloom", "network", "create"]
    racers = [
        Popen([*command, f"n{number}", "--preset", "flannel"], stdout=PIPE, stderr=PIPE)
        for number in range(4)
    ]
    codes = []
    for racer in racers:
        racer.communicate(timeout=100)
        codes.append(racer.returncode)
    assert sorted(codes)[0] == 0
    assert set(sorted(codes)[1:]) <= {3, 4}
    assert len(netloom("network", "list", "-o", "json").data) == 1


def test_a_record_that_cannot_be_read_harms_no_other(netloom: Callable, put: Callable) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    put(keys.network_key("broken"), b"{nonsense")
    said = netloom("network", "list", "-o", "json")
    assert [one["name"] for one in json.loads(said.out)] == ["blue"]
    assert "networks/broken" in said.err
    assert said.code == 3, "something is to be edited"
    assert netloom("network", "show", "blue").code == 0


def test_an_empty_store_says_how_to_begin(netloom: Callable, store: Store) -> None:
    assert "netloom network create" in netloom("network", "list").out
    assert netloom("network", "list", "-o", "json").data == []


def test_the_table_shows_the_four_choices(netloom: Callable) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    head, line = netloom("network", "list").out.splitlines()
    assert head.split()[:2] == ["NETWORK", "POOL"]
    assert line.split() == [
        *("blue", "10.244.0.0/16", "/24", "host-block", "bridge", "vxlan", "auto", "0")
    ]


@pytest.mark.parametrize(
    "verb",
    [
        ("network", "list"),
        ("network", "show", "blue"),
        ("network", "set", "blue", "mtu=0"),
        ("network", "delete", "blue"),
        ("host", "list"),
        ("host", "forget", "h1"),
        ("ipam", "show"),
        ("ipam", "reserve", "blue", "10.244.0.0/28"),
    ],
)
def test_a_verb_that_needs_a_store_does_not_make_one(
    netloom: Callable, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    path = tmp_path / "typo" / "x.db"
    said = netloom(*verb, "--datastore", f"sqlite://{path}")
    assert said.code == 6
    assert f"store {path} does not exist" in said.err
    assert "--datastore" in said.err
    assert "network create" in said.err
    assert not path.parent.exists()


def test_the_first_network_begins_the_store(netloom: Callable, tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.db"
    assert (
        netloom(
            "network", "create", "blue", "--preset", "flannel", "--datastore", f"sqlite://{path}"
        ).code
        == 0
    )
    assert path.exists()


def test_a_deletion_is_told_as_json(netloom: Callable, store: Store) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    tried = netloom("network", "delete", "blue", "--dry-run", "-o", "json").data
    assert tried == {"network": "blue", "revision": 0, "dryRun": True}
    revision = store.list("").revision
    done = netloom("network", "delete", "blue", "-o", "json").data
    assert done == {"network": "blue", "revision": revision + 1, "dryRun": False}
    assert store.get(keys.network_key("blue")) is None


@pytest.mark.parametrize(
    ("addressing", "configured", "line"),
    [
        ("on-demand", 0, "on-demand, at most 20 per host and pool"),
        (
            "on-demand",
            4,
            "on-demand, at most 4 per host and pool by IPAMConfiguration default, not 20",
        ),
        ("on-demand", 30, "on-demand, at most 20 per host and pool"),
        ("host-block", 4, "host-block, 1 per host and pool"),
    ],
)
def test_the_limit_of_blocks_that_holds_is_shown_with_where_it_comes_from(
    netloom: Callable, store: Store, addressing: str, configured: int, line: str
) -> None:
    netloom(
        "network", "create", "blue", "--pool", "10.1.0.0/16", "--set", f"addressing={addressing}"
    )
    spec = {"strictAffinity": True, "maxBlocksPerHost": configured}
    document = Resource("IPAMConfiguration", "default", spec)
    key = keys.resource_key(*document.identity)
    store.commit(Transaction((Put(key, json.dumps(document.render()).encode()),)))
    shown = netloom("network", "show", "blue").out.splitlines()
    assert (
        next(each for each in shown if each.startswith("addressing")).split(maxsplit=1)[1] == line
    )
    own = 20 if addressing == "on-demand" else 1
    assert netloom("network", "show", "blue", "-o", "json").data["addressing"] == {
        "mode": addressing,
        "maxBlocksPerHost": own,
    }, "the definition, as it may be created again"


def test_a_loan_is_shown_with_its_lender(netloom: Callable, store: Store) -> None:
    borrowing = ["--set", "addressing.mode=on-demand", "--set", "addressing.borrowing=true"]
    routed = ["--attach", "routed", "--backend", "host-gw"]
    made = netloom("network", "create", "blue", "--pool", "10.1.0.0/16", *routed, *borrowing)
    assert made.code == 0
    blocks = [
        Block("blue", parse_network("10.1.0.0/26", ""), "h1", confirmed=True),
        Block("blue", parse_network("10.1.0.9/32", ""), "h2", confirmed=True, lender="h1"),
        Block("blue", parse_network("10.1.0.64/26", ""), "h2", confirmed=True),
        Block("blue", parse_network("10.1.0.65/32", ""), "h1", lender="h2"),
    ]
    for each in blocks:
        put = Put(keys.block_key("blue", each.cidr), json.dumps(each.render()).encode())
        store.commit(Transaction((put,)))
    shown = netloom("network", "show", "blue").out.splitlines()
    assert "addressing  on-demand, at most 20 per host and pool, borrowing" in shown
    assert [line.split(maxsplit=2)[2] for line in shown[-4:]] == [
        "confirmed",
        "lent by h1",
        "confirmed",
        "asked of h2",
    ]
