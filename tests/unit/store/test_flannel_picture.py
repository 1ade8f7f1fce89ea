"""What a picture of flannel's keys costs where thousands of leases are unchanged."""

from __future__ import annotations

import json

import pytest

from netloom.model.datastore import Entry
from netloom.store.flannel.holding import backend_note
from netloom.store.flannel.layout import Format
from netloom.store.flannel.picture import Picture

FORM = Format()
CONFIG = {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}


def config(**fields: object) -> Entry:
    return Entry(FORM.config, json.dumps({**CONFIG, **fields}).encode(), 1, 1)


def lease(number: int) -> Entry:
    data = {"VNI": 1, "VtepMAC": f"02:00:00:00:00:{number:02x}"}
    value = {"PublicIP": f"192.0.2.{number}", "PublicIPv6": None, "BackendType": "vxlan"}
    key = f"{FORM.subnets}10.244.{number}.0-24"
    return Entry(key, json.dumps({**value, "BackendData": data}).encode(), number, number, 7)


@pytest.fixture
def picture() -> Picture:
    return Picture(FORM, [config(), *(lease(number) for number in range(1, 9))])


def test_a_note_of_the_backend_that_is_in_use_makes_no_record_anew(picture: Picture):
    before = dict(picture.records)
    assert picture.network is not None
    note = backend_note(picture.network.backend, picture.network)
    changed = picture.apply([(FORM.backend, Entry(FORM.backend, note, 20, 20))])
    assert not changed
    assert all(picture.records[key] is entry for key, entry in before.items())


def test_what_is_made_anew_and_is_the_same_stays_one_object_for_all_copies(picture: Picture):
    twin = picture.copy()
    again = Entry(FORM.config, config(SubnetMax="10.244.200.0").value, 1, 21)
    changed = twin.apply([(FORM.config, again)])
    assert not [key for key in changed if "/blocks/" in key or "/hosts/" in key]
    shared = [key for key in picture.records if "/blocks/" in key or "/hosts/" in key]
    assert len(shared) == 16
    assert all(twin.records[key] is picture.records[key] for key in shared)
    assert all(twin.held[segment] is held for segment, held in picture.held.items())


def test_another_backend_in_the_config_is_held_against_every_lease(picture: Picture):
    changed = picture.apply([(FORM.config, config(Backend={"Type": "vxlan", "VNI": 5}))])
    assert len([key for key in changed if "/blocks/" in key]) == 8
    picture.apply([(FORM.config, config())])
    assert not any(held.problem for held in picture.held.values())


def test_a_public_address_that_changes_hands_is_forgotten_where_it_was(picture: Picture):
    moved = Entry(lease(1).key, lease(9).value, 1, 30, 7)
    changed = picture.apply([(moved.key, moved)])
    hosts = {key.rpartition("/")[2] for key in picture.records if "/hosts/" in key}
    assert "flannel-192.0.2.1" not in hosts
    assert "flannel-192.0.2.9" in hosts
    assert len(changed) == 3
