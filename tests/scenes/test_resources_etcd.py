"""Resources in a real etcd, in our own keys and beside flannel's: many, and two people at once."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_contract.etcd_cluster import EtcdCluster, cluster, inside

from netloom.cli.main import run
from netloom.model.datastore import Put, Transaction
from netloom.store.opening import open_store

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
Verb = Callable[..., tuple[int, str, str]]
HEAD = "apiVersion: projectcalico.org/v3\nkind: "
PEER = HEAD + "BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 64513}\n"
POOL = HEAD + "IPPool\nmetadata: {name: %s}\nspec: {cidr: %s, blockSize: 26, vxlanMode: Always}\n"


@pytest.fixture(scope="module")
def etcd(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "ecr", 1, tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def verb(
    etcd: EtcdCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verb:
    etcd.wipe()
    monkeypatch.setenv("NETLOOM_DATASTORE", etcd.url)

    def call(*args: str, text: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        if text:
            path = tmp_path / "f.yaml"
            path.write_text(text)
            args = (*args, "-f", str(path))
        code = run(list(args))
        return (code, *capsys.readouterr())

    return call


def names(said: tuple[int, str, str]) -> list[str]:
    assert said[0] == 0, said[2]
    return [line.split()[0] for line in said[1].splitlines()[1:] if line]


def test_more_resources_than_a_transaction_takes_are_written_and_deleted(verb: Verb) -> None:
    """A member takes 128 operations at once by default."""
    sets = [
        f"{HEAD}GlobalNetworkSet\nmetadata: {{name: s{n}}}\nspec: {{nets: [10.0.0.0/8]}}\n"
        for n in range(300)
    ]
    code, out, _ = verb("apply", text="---\n".join(sets))
    assert (code, "applied 300 'GlobalNetworkSet'" in out) == (0, True)
    assert len(names(verb("get", "globalnetworksets"))) == 300
    assert verb("delete", text="---\n".join(sets))[0] == 0
    assert names(verb("get", "globalnetworksets")) == []


def test_a_pool_goes_with_all_of_its_blocks_however_many(etcd: EtcdCluster, verb: Verb) -> None:
    verb("apply", text=f"{POOL % ('one', '10.9.0.0/16')}---\n{POOL % ('two', '10.10.0.0/16')}")
    store = open_store(etcd.url)
    try:
        for third in range(250):
            block = {"network": "calico", "cidr": f"10.10.{third}.0/26", "host": f"h{third}"}
            value = json.dumps({**block, "state": "confirmed"}).encode()
            key = f"/netloom/v1/cluster/blocks/calico/10.10.{third}.0-26"
            store.commit(Transaction([Put(key, value)]))
        assert verb("delete", "ippool", "two")[0] == 0
        assert store.list("/netloom/v1/cluster/blocks/").entries == ()
    finally:
        store.close()
    assert names(verb("get", "ippools")) == ["one"]


def test_of_two_people_at_once_one_is_told(etcd: EtcdCluster, verb: Verb) -> None:
    """Each replaces what he has looked at; nobody's change is lost without a word."""
    assert verb("apply", text=PEER)[0] == 0
    old = verb("get", "bgppeer", "tor", "-o", "yaml")[1]
    codes: list[int] = []
    begin = threading.Barrier(4)

    def replace(number: int, path: Path) -> None:
        with inside(etcd.client):
            path.write_text(old.replace("64513", str(64600 + number)))
            begin.wait(timeout=90)
            codes.append(run(["replace", "-f", str(path)]))

    threads = [
        threading.Thread(target=replace, args=(n, etcd.directory / f"{n}.yaml")) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert sorted(codes) == [0, 4, 4, 4]


def test_beside_flannels_keys_resources_live_as_anywhere(
    etcd: EtcdCluster, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", f"{etcd.url}?format=flannel")
    config = b'{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}'
    store = open_store(etcd.url)
    try:
        store.commit(Transaction([Put("/coreos.com/network/config", config)]))
        assert verb("apply", text=PEER)[0] == 0
        assert names(verb("get", "bgppeers")) == ["tor"]
        assert verb("patch", "bgppeer", "tor", "-p", '{"spec": {"asNumber": 64514}}')[0] == 0
        old = verb("get", "bgppeer", "tor", "-o", "yaml")[1]
        assert verb("label", "bgppeer", "tor", "rack=1")[0] == 0
        assert verb("replace", text=old)[0] == 4
        (pool,) = names(verb("get", "ippools"))
        said = verb("get", "ippool", pool, "-o", "json")
        spec: Any = json.loads(said[1])["spec"]
        assert (spec["cidr"], spec["vxlanMode"]) == ("10.5.0.0/16", "Always")
        for field, value in (("disabled", True), ("nodeSelector", "rack == '1'")):
            change = json.dumps({"spec": {field: value}})
            code, _, err = verb("patch", "ippool", pool, "-p", change)
            assert (code, field in err) == (3, True), "flannel's daemons would deal from it still"
        inside_it = POOL.replace(
            "{name: %s}", "{name: %s, annotations: {netloom/network: default}}"
        )
        code, _, err = verb("apply", text=inside_it % ("second", "10.6.0.0/16"))
        assert (code, "hint:" in err) == (3, True), "flannel's network has one pool of a family"
        assert verb("apply", text=POOL % ("third", "10.7.0.0/16"))[0] == 0, "a network beside it"
        assert verb("delete", "bgppeer", "tor")[0] == 0
        entry = store.get("/coreos.com/network/config")
        assert entry is not None
        assert json.loads(entry.value)["Network"] == "10.5.0.0/16"
    finally:
        store.close()
