"""``netloom network set backend=…``: a move is announced, shown, and refused where it would cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.model import keys
from netloom.model.datastore import Store
from netloom.model.host import Host
from netloom.model.network import Network


def stored(store: Store) -> Network:
    entry = store.get(keys.network_key("blue"))
    assert entry is not None
    return Network.parse(json.loads(entry.value))


@pytest.fixture
def blue(netloom: Callable) -> Callable:
    assert netloom("network", "create", "blue", "--preset", "flannel").code == 0
    return lambda *words: netloom("network", "set", "blue", *words)


def test_a_dry_run_tells_what_would_move_and_writes_nothing(blue: Callable, store: Store) -> None:
    before = stored(store)
    said = blue("backend=host-gw", "--dry-run")
    assert said.code == 0, said.err
    assert "every host moves to host-gw; until then beside it: vxlan" in said.out
    assert stored(store) == before


def test_a_network_that_moves_is_listed_with_both_backends(
    blue: Callable, netloom: Callable, store: Store
) -> None:
    assert blue("backend=host-gw").code == 0
    assert [choice.type for choice in stored(store).retiring] == ["vxlan"]
    listed = netloom("network", "list").out
    assert "host-gw" in listed
    assert "from vxlan" in listed
    assert "moving" in netloom("network", "show", "blue").out


def test_another_port_on_the_same_device_is_refused_without_force(
    blue: Callable, store: Store
) -> None:
    before = stored(store)
    said = blue("backend.port=4789")
    assert said.code != 0
    assert "both need link flannel.1" in said.err
    assert "--force" in said.err
    assert stored(store) == before
    assert blue("backend.port=4789", "backend.vni=2").code == 0
    assert blue("backend.port=4790", "backend.vni=1", "--force").code == 0


def test_an_edit_of_another_field_does_not_end_a_move(blue: Callable, store: Store) -> None:
    assert blue("backend=host-gw").code == 0
    moving = stored(store)
    assert blue("mtu=1400").code == 0
    assert (stored(store).retiring, stored(store).moves) == (moving.retiring, moving.moves)


def test_a_network_made_from_anothers_definition_begins_without_its_move(
    blue: Callable, netloom: Callable, store: Store, tmp_path: Path
) -> None:
    assert blue("backend=host-gw").code == 0
    path = tmp_path / "blue.yaml"
    path.write_text(netloom("network", "show", "blue", "-o", "yaml").out)
    assert netloom("network", "delete", "blue").code == 0
    said = netloom("network", "create", "blue", "-f", str(path))
    assert said.code == 0, said.err
    assert (stored(store).retiring, stored(store).moves) == ((), 0)


def test_a_backend_that_a_hosts_kernel_cannot_make_is_refused_with_the_nearest_that_works(
    blue: Callable, netloom: Callable, store: Store, put: Callable
) -> None:
    one = Host("1a", "h1", devices={"ipip": False, "vxlan": True})
    put(keys.host_key("1a"), one.render())
    before = stored(store)
    for said in (
        blue("backend=ipip"),
        blue("backend=ipip", "--force"),
        netloom("network", "create", "red", "--preset", "calico", "--backend", "ipip"),
    ):
        assert said.code == 3
        assert (
            "backend: it needs links of type ipip, which the kernel cannot make on h1" in said.err
        )
        assert "CONFIG_NET_IPIP" in said.err
        assert "the nearest that every host can do is backend vxlan" in said.err
    assert stored(store) == before
    assert store.get(keys.network_key("red")) is None
