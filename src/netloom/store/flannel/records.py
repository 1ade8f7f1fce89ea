"""What one key of flannel's is among our records.

Pure. A lease is blocks of its holder's, a reservation where it never ends, or a note that it cannot
be read; all leases of one public address together are a host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Entry
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, Host, Reservation
from netloom.store.flannel.document import encode
from netloom.store.flannel.held import Held
from netloom.store.flannel.layout import Format
from netloom.store.flannel.told import Told

#: Begins the host id of a guest.
GUEST = "flannel-"


def recorded(entry: Entry, key: str, value: bytes) -> Entry:
    """Return what an entry of flannel's is among our records."""
    return Entry(key, value, entry.create_revision, entry.mod_revision)


def unreadable(key: str, text: str, remedy: str) -> bytes:
    """Return the value that says of flannel's ``key`` that it cannot be read.

    ``reconcile/cluster`` understands it in a record's place.
    """
    note: Mapping[str, Any] = {"key": key, "unreadable": text, "remedy": remedy}
    return encode(note)


def note(form: Format, held: Held) -> bytes:
    """Return the value that says why a lease cannot be used."""
    if held.unjudged:
        return held.unjudged
    key = form.subnets + held.segment
    text = f"{held.problem}; what was there before, if anything was, stays in use"
    return unreadable(key, text, f"mend the value or delete the key: etcdctl del {json.dumps(key)}")


def of_lease(form: Format, held: Held) -> list[Entry]:
    """Return a lease's blocks, or what is to be said of it."""
    entry = held.entry
    if not held.cidrs:
        return [recorded(entry, form.block_prefix + held.segment, note(form, held))]
    entries = []
    for cidr in held.cidrs:
        key = keys.block_key(form.network, cidr)
        if held.reserved:
            assert held.lease is not None
            reason = f"{form.subnets}{held.segment} has no lease and names {held.lease.public_ip}"
            key = keys.reservation_key(form.network, cidr)
            value = encode(Reservation(form.network, cidr, reason).render())
        elif held.problem:
            value = note(form, held)
        else:
            confirmed = held.holder is None or cidr.version not in held.holder.pending
            host_id = held.holder.host_id if held.holder else GUEST + held.address
            value = encode(Block(form.network, cidr, host_id, confirmed).render())
        entries.append(recorded(entry, key, value))
    return entries


def of_guests(form: Format, told: Told, guests: Sequence[Held]) -> list[Entry]:
    """Return the record of the host that runs flannel's daemon at the address of ``guests``."""
    newest = max(guests, key=lambda each: each.entry.mod_revision)
    key = keys.host_key(GUEST + newest.address)
    if len({_macs(each) for each in guests}) > 1:
        names = " and ".join(f"{form.subnets}{each.segment}" for each in guests)
        text = f"two hosts have the public address {newest.address}: {names} name different"
        remedy = "give each host its own address (-public-ip, -iface), and delete the older key"
        both = unreadable(newest.entry.key, f"{text} tunnel ends", remedy)
        return [recorded(newest.entry, key, both)]
    return [recorded(newest.entry, key, _guest(form.network, told, newest))]


def of_lost_guest(form: Format, address: str, leases: Sequence[Held]) -> list[Entry]:
    """Say that the host at an address cannot be read, so that its last good form stays."""
    for each in leases:
        if each.problem and each.holder is None and not each.reserved:
            return [recorded(each.entry, keys.host_key(GUEST + address), note(form, each))]
    return []


def guests_blocks(entries: Iterable[Entry]) -> Iterator[tuple[IPNetwork, str]]:
    """Go over the blocks of guests among records: each with the address of its guest."""
    for entry in entries:
        if entry.key.startswith(keys.BLOCKS):
            with suppress(ValueError, InvalidConfig):
                block = Block.parse(json.loads(entry.value), entry.key)
                if block.host_id.startswith(GUEST):
                    yield block.cidr, block.host_id.removeprefix(GUEST)


def _guest(name: str, told: Told, held: Held) -> bytes:
    lease = held.lease
    assert lease is not None
    # its daemon has one backend, for both directions
    there = told.network is not None and held.serves == told.label
    course = told.course if there else held.serves
    macs = {name: lease.mac(4), f"{name}/6": lease.mac(6)}
    return encode(
        Host(
            GUEST + held.address,
            GUEST + held.address,
            lease.public_ip,
            lease.public_ip6,
            MappingProxyType({key: mac for key, mac in macs.items() if mac}),
            MappingProxyType({name: (held.serves,)} if held.serves else {}),
            MappingProxyType({name: course} if held.serves else {}),
        ).render()
    )


def _macs(held: Held) -> tuple[str, str]:
    return (held.lease.mac(4), held.lease.mac(6)) if held.lease else ("", "")
