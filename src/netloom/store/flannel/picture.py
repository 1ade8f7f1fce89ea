"""flannel's keys as our records: a table that follows the raw keys, entry by entry.

Pure. Whatever stands in the store has one of three outcomes: a record of ours; a note that it
cannot be read, at the key that the record would have, so that its last good form stays in use; or
nothing, for what concerns nobody. No key can harm another.

Who holds a lease: the host that says so beside it, in the same revision. A lease that another hand
wrote since still counts as that host's while it names the host's address. Every other lease is of a
host that runs flannel's daemon: a *guest*, known by its public address alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Entry, Listing
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host
from netloom.model.network import Network
from netloom.store.flannel import records
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.document import encode
from netloom.store.flannel.held import Held, Holder, Index, Reader
from netloom.store.flannel.layout import Format
from netloom.store.flannel.records import GUEST, recorded, unreadable
from netloom.store.flannel.told import Told, absent


class Picture:
    """The table. ``apply`` takes raw changes and returns which of our keys they changed."""

    def __init__(
        self,
        form: Format,
        entries: Iterable[Entry],
        recalled: Mapping[IPNetwork, str] | None = None,
    ) -> None:
        self.form = form
        self.raw: dict[str, Entry] = {entry.key: entry for entry in entries}
        self.records: dict[str, Entry] = {}
        self._told = Told()
        self.held: dict[str, Held] = {}
        #: The keys of the records that each unit made; the one itself where it is one.
        self._made: dict[str, str | tuple[str, ...]] = {}
        self._by_address, self._by_host = Index(), Index()
        self._noted: dict[str, str] = {}
        #: The address that a guest's lease had before it could not be read any more, by segment,
        self._last: dict[str, str] = {}
        #: and what an earlier run knew of that, by block.
        self._recalled: Mapping[IPNetwork, str] = recalled or {}
        self._make("config")
        segments = [key.removeprefix(form.subnets) for key in self._below(form.subnets)]
        for segment in segments:
            self._make(f"lease {segment}")
        for address in self._by_address.names():
            self._make(f"guest {address}")
        for key in self._below(form.cluster):
            self._make(f"record {key}")

    @property
    def config(self) -> FlannelConfig | None:
        """Flannel's configuration as it could last be read."""
        return self._told.config

    @property
    def network(self) -> Network | None:
        """The network that the configuration makes."""
        return self._told.network

    def copy(self) -> Picture:
        """Return a picture of the same that goes its own way from here; values are shared."""
        twin = Picture.__new__(Picture)
        twin.form, twin._told = self.form, self._told
        twin.raw, twin.records, twin.held = dict(self.raw), dict(self.records), dict(self.held)
        twin._made, twin._noted = dict(self._made), dict(self._noted)
        twin._last, twin._recalled = dict(self._last), self._recalled
        twin._by_address, twin._by_host = self._by_address.copy(), self._by_host.copy()
        return twin

    def become(self, entries: Iterable[Entry]) -> None:
        """Take in a listing of all raw keys; costs what differs."""
        now = {entry.key: entry for entry in entries}
        gone = [(key, None) for key in self.raw if key not in now]
        fresh = [(key, entry) for key, entry in now.items() if self.raw.get(key) != entry]
        if gone or fresh:
            self.apply([*gone, *fresh])

    def learn(self, news: Listing, count: int) -> bool:
        """Take in what is new since all raw keys were listed; ``count`` is how many there are now.

        False, and nothing is taken in, where that is not all: some of them are gone.
        """
        fresh = [(each.key, each) for each in news.entries if self.raw.get(each.key) != each]
        if len(self.raw) + sum(key not in self.raw for key, _ in fresh) != count:
            return False
        if fresh:
            self.apply(fresh)
        return True

    def apply(self, changes: Iterable[tuple[str, Entry | None]]) -> set[str]:
        """Take in raw changes; return our keys whose record is another than before, or gone."""
        units: dict[str, None] = {}
        for key, entry in changes:
            if entry is None:
                self.raw.pop(key, None)
            else:
                self.raw[key] = entry
            units.update(dict.fromkeys(self._units(key)))
        changed: set[str] = set()
        if "config" in units:
            before = self._told
            changed |= self._make("config")
            if self._told != before:  # else no lease means anything else by it
                units.update(dict.fromkeys(f"lease {segment}" for segment in self.held))
        addresses: set[str] = set()
        for unit in list(units):
            kind, _, name = unit.partition(" ")
            if kind == "lease":
                addresses |= self._address_of(name)
                changed |= self._make(unit)
                addresses |= self._address_of(name)
            elif kind == "record":
                changed |= self._make(unit)
        for address in addresses:
            changed |= self._make(f"guest {address}")
        return changed

    def find(self, cidr: IPNetwork) -> Held | None:
        """Return the lease that holds this very block."""
        return next((held for held in self.held.values() if cidr in held.cidrs), None)

    def host(self, host_id: str) -> Host | None:
        """Return the record of one of our hosts."""
        entry = self.raw.get(self.form.raw(keys.host_key(host_id)))
        if entry is None:
            return None
        try:
            return Host.parse(json.loads(entry.value), entry.key)
        except (ValueError, InvalidConfig):
            return None

    def of_host(self, host_id: str) -> list[Held]:
        """Return the leases that one of our hosts has."""
        held = (self.held[segment] for segment in self._by_host.find(host_id))
        return [each for each in held if each.holder and each.holder.host_id == host_id]

    def _below(self, prefix: str) -> list[str]:
        return [key for key in self.raw if key.startswith(prefix)]

    def _units(self, key: str) -> list[str]:
        """Return what has to be made anew when a raw key changed."""
        form = self.form
        if key in (form.config, form.backend, form.deleted):
            return ["config"]
        for prefix in (form.subnets, form.holders):
            if key.startswith(prefix):
                return [f"lease {key.removeprefix(prefix)}"]
        if not key.startswith(form.cluster):
            return []
        units = [f"record {key}"]
        host_id = form.ours(key).removeprefix(keys.HOSTS)
        return units + [f"lease {segment}" for segment in self._by_host.find(host_id)]

    def _address_of(self, segment: str) -> set[str]:
        held = self.held.get(segment)
        address = held.address if held and held.lease else self._last.get(segment)
        return {address} if address else set()

    def _make(self, unit: str) -> set[str]:
        kind, _, name = unit.partition(" ")
        if kind == "lease":
            entries = self._make_lease(name)
        elif kind == "guest":
            entries = self._make_guest(name)
        else:
            entries = self._make_network() if kind == "config" else self._make_record(name)
        made = self._made.pop(unit, ())
        made = (made,) if isinstance(made, str) else made
        before = {key: self.records.pop(key, None) for key in made}
        if entries:
            several = tuple(entry.key for entry in entries)
            self._made[unit] = several if len(several) > 1 else several[0]
        changed = set()
        for entry in entries:
            same = before.pop(entry.key, None)
            if same != entry:
                changed.add(entry.key)
                same = entry
            self.records[entry.key] = same  # of equal ones the first stays: copies share it
        return changed.union(before)

    def _make_network(self) -> list[Entry]:
        form, entry = self.form, self.raw.get(self.form.config)
        key = keys.network_key(form.network)
        if entry is None and form.deleted in self.raw:
            self._told = Told()
            return []
        if entry is None:
            self._told = Told(lacking=unreadable(*absent(form)))
            return [Entry(key, self._told.lacking, 0, 0)]
        try:
            self._told = told = Told.parse(form, self.raw)
        except InvalidConfig as error:
            note = unreadable(form.config, str(error), error.hint)
            if self.network is None:  # else what was read before stays the measure for leases
                self._told = Told(lacking=note)
            return [recorded(entry, key, note)]
        assert told.network is not None
        made = [(key, told.network.render()), *told.reservations(form)]
        return [recorded(entry, place, encode(content)) for place, content in made]

    def _make_lease(self, segment: str) -> list[Entry]:
        """Return a lease's blocks, or what is to be said of it."""
        self._by_host.remove(self._noted.pop(segment, ""), segment)
        for address in self._address_of(segment):
            self._by_address.remove(address, segment)
        before = self.held.get(segment)
        guests = self._address_of(segment) if before and before.holder is None else set[str]()
        self._last.pop(segment, None)
        entry = self.raw.get(self.form.subnets + segment)
        if entry is None:
            self.held.pop(segment, None)
            return []
        noted = self.raw.get(self.form.holders + segment)
        told = Holder.parse(noted.value) if noted else None
        held = Reader(self._told, self.host).read(segment, entry, noted, told)
        if before == held:
            held = before  # copies of this picture share it
        self.held[segment] = held
        if before is None:
            guests = {self._recalled[cidr] for cidr in held.cidrs if cidr in self._recalled}
        for address in guests if held.lease is None else ():
            self._last[segment] = address
            self._by_address.add(address, segment)
        if held.lease is not None:
            self._by_address.add(held.address, segment)
        if told is not None:
            self._by_host.add(told.host_id, segment)
            self._noted[segment] = told.host_id
        return records.of_lease(self.form, held)

    def _make_guest(self, address: str) -> list[Entry]:
        """Return the record of the host that runs flannel's daemon at an address."""
        leases = [self.held[segment] for segment in self._by_address.find(address)]
        guests = [each for each in leases if each.holder is None and not each.problem]
        guests += [each for each in leases if each.holder and self._rival(each)]
        if not guests:
            return records.of_lost_guest(self.form, address, leases)
        return records.of_guests(self.form, self._told, guests)

    def _rival(self, held: Held) -> bool:
        """Tell whether another hand wrote another tunnel end into a lease of ours."""
        if held.untouched or held.holder is None or held.lease is None:
            return False
        host = self.host(held.holder.host_id)
        mac = host.macs.get(self.form.network, "") if host else ""
        return held.lease.mac(4) not in ("", mac)

    def _make_record(self, raw: str) -> list[Entry]:
        """Pass on what is ours, unless it claims to be something of flannel's."""
        entry, key = self.raw.get(raw), self.form.ours(raw)
        if entry is None or self.form.is_flannels(key) or key.startswith(keys.HOSTS + GUEST):
            return []
        if key.startswith(keys.HOSTS) and self.host(key.removeprefix(keys.HOSTS)) is None:
            text = "the record of a host cannot be read, its last good form stays in use"
            remedy = f"mend the value or delete the key: etcdctl del {json.dumps(raw)}"
            return [recorded(entry, key, unreadable(raw, text, remedy))]
        return [replace(entry, key=key)]
