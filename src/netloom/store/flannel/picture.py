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
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from netloom.core.moving import begin
from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Entry
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, Host, Reservation
from netloom.model.network import Choice, Network
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.document import encode
from netloom.store.flannel.layout import Format
from netloom.store.flannel.lease import Lease, parse_key

#: Begins the host id of a guest.
GUEST = "flannel-"


@dataclass(frozen=True, slots=True)
class Holder:
    """What we say beside a lease: whose it is, and in which families the claim is pending."""

    host_id: str
    pending: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, value: bytes) -> Holder | None:
        """Parse what :meth:`render` writes; None for anything else."""
        try:
            data = json.loads(value)
            return cls(str(data["host"]), frozenset(int(family) for family in data["pending"]))
        except (ValueError, KeyError, TypeError):
            return None

    def render(self) -> bytes:
        """Return the value to write."""
        return encode({"host": self.host_id, "pending": sorted(self.pending)})


@dataclass(frozen=True, slots=True)
class Held:
    """One lease as it stands. ``lease`` is None where ``problem`` says that it cannot be used."""

    segment: str
    entry: Entry
    cidrs: tuple[IPNetwork, ...] = ()
    lease: Lease | None = None
    holder: Holder | None = None
    #: Ours wrote it last; False when another hand wrote it since.
    untouched: bool = False
    #: The label of the backend that the holder serves by its lease.
    serves: str = ""
    problem: str = ""


class Picture:
    """The table. ``apply`` takes raw changes and returns which of our keys they changed."""

    def __init__(self, form: Format, entries: Iterable[Entry]) -> None:
        self.form = form
        self.raw: dict[str, Entry] = {entry.key: entry for entry in entries}
        self.records: dict[str, Entry] = {}
        self.config: FlannelConfig | None = None
        self.network: Network | None = None
        #: The network's label and course, which thousands of leases are held against.
        self._label = self._course = ""
        self.held: dict[str, Held] = {}
        self._made: dict[str, tuple[str, ...]] = {}
        #: Segments by public address and by host id; tuples, since nearly all hold one.
        self._by_address: dict[str, tuple[str, ...]] = {}
        self._by_host: dict[str, tuple[str, ...]] = {}
        self._noted: dict[str, str] = {}
        #: The address that a guest's lease had before it could not be read any more, by segment.
        self._last: dict[str, str] = {}
        self._make("config")
        segments = [key.removeprefix(form.subnets) for key in self._below(form.subnets)]
        for segment in segments:
            self._make(f"lease {segment}")
        for address in self._by_address:
            self._make(f"guest {address}")
        for key in self._below(form.cluster):
            self._make(f"record {key}")

    def copy(self) -> Picture:
        """Return a picture of the same that goes its own way from here; values are shared."""
        twin = Picture.__new__(Picture)
        twin.form, twin.config, twin.network = self.form, self.config, self.network
        twin._label, twin._course = self._label, self._course
        twin.raw, twin.records, twin.held = dict(self.raw), dict(self.records), dict(self.held)
        twin._made, twin._noted = dict(self._made), dict(self._noted)
        twin._last = dict(self._last)
        twin._by_address, twin._by_host = dict(self._by_address), dict(self._by_host)
        return twin

    def become(self, entries: Iterable[Entry]) -> None:
        """Take in a listing of all raw keys; costs what differs."""
        now = {entry.key: entry for entry in entries}
        gone = [(key, None) for key in self.raw if key not in now]
        fresh = [(key, entry) for key, entry in now.items() if self.raw.get(key) != entry]
        if gone or fresh:
            self.apply([*gone, *fresh])

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
            before = self.config, self.network
            changed |= self._make("config")
            if (self.config, self.network) != before:  # else no lease means anything else by it
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
        held = (self.held[segment] for segment in sorted(self._by_host.get(host_id, ())))
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
        return units + [f"lease {segment}" for segment in self._by_host.get(host_id, ())]

    def _address_of(self, segment: str) -> set[str]:
        held = self.held.get(segment)
        address = str(held.lease.public_ip) if held and held.lease else self._last.get(segment)
        return {address} if address else set()

    def _make(self, unit: str) -> set[str]:
        kind, _, name = unit.partition(" ")
        if kind == "lease":
            entries = self._make_lease(name)
        elif kind == "guest":
            entries = self._make_guest(name)
        else:
            entries = self._make_network() if kind == "config" else self._make_record(name)
        before = {key: self.records.pop(key, None) for key in self._made.pop(unit, ())}
        if entries:
            self._made[unit] = tuple(entry.key for entry in entries)
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
        if entry is None:
            self.config = self.network = None
            if form.deleted in self.raw:
                return []
            text = f"there is no key {form.config}, where flannel's configuration is looked for"
            remedy = f"write it (etcdctl put {form.config} …), or name the right prefix"
            return [Entry(key, unreadable(text, remedy), 0, 0)]
        try:
            config = FlannelConfig.parse(entry.value, form.config)
            network = self._moved(config.network(form.network, nat_outgoing=form.ip_masq))
        except InvalidConfig as error:
            # what was read before stays the measure for leases
            return [_as(entry, key, unreadable(str(error), error.hint))]
        self.config, self.network = config, network
        self._label, self._course = network.backend.label, network.course
        entries = [_as(entry, key, encode(network.render()))]
        for reservation in config.reservations(form.network):
            place = keys.reservation_key(form.network, reservation.cidr)
            value = encode(reservation.render())
            entries.append(_as(entry, place, value))
        return entries

    def _moved(self, network: Network) -> Network:
        """Add the backends that retire: noted ones, and that of before an edit by hand."""
        entry = self.raw.get(self.form.backend)
        if entry is None:
            return network
        try:
            data = json.loads(entry.value)
            choices = [Choice.parse(item, "backend", "") for item in data["retiring"]]
            current = Choice.parse(data["current"], "backend", "")
            moves = int(data.get("moves", 0))
        except (ValueError, KeyError, TypeError, InvalidConfig):
            return network
        before = replace(network, backend=current, retiring=tuple(choices), moves=moves)
        if current == network.backend:
            return before
        return begin(before, network)

    def _make_lease(self, segment: str) -> list[Entry]:
        """Return a lease's blocks, or what is to be said of it."""
        _remove(self._by_host, self._noted.pop(segment, ""), segment)
        for address in self._address_of(segment):
            _remove(self._by_address, address, segment)
        before = self.held.get(segment)
        guests = self._address_of(segment) if before and before.holder is None else set()
        self._last.pop(segment, None)
        entry = self.raw.get(self.form.subnets + segment)
        if entry is None:
            self.held.pop(segment, None)
            return []
        noted = self.raw.get(self.form.holders + segment)
        told = Holder.parse(noted.value) if noted else None
        held = self._read(segment, entry, noted, told)
        if before == held:
            held = before  # copies of this picture share it
        self.held[segment] = held
        for address in guests if held.lease is None else ():
            self._last[segment] = address
            _add(self._by_address, address, segment)
        if held.lease is not None:
            _add(self._by_address, str(held.lease.public_ip), segment)
        if told is not None:
            _add(self._by_host, told.host_id, segment)
            self._noted[segment] = told.host_id
        return self._render(held)

    def _read(self, segment: str, entry: Entry, noted: Entry | None, holder: Holder | None) -> Held:
        try:
            cidrs = parse_key(segment)
        except InvalidConfig as error:
            return Held(segment, entry, problem=str(error))
        try:
            lease = Lease.parse(entry.value, "value")
        except InvalidConfig as error:
            return Held(segment, entry, cidrs, problem=str(error))
        untouched = noted is not None and noted.mod_revision == entry.mod_revision
        if holder is not None and not untouched:
            host = self.host(holder.host_id)
            if host is None or host.underlay4 != lease.public_ip:
                holder = None
        serves, problem = self._serves(lease, len(cidrs) > 1) if holder is None else ("", "")
        return Held(segment, entry, cidrs, lease, holder, untouched, serves, problem)

    def _serves(self, lease: Lease, dual: bool) -> tuple[str, str]:
        """Return the label of the backend that a guest's lease fits, or why it fits none."""
        if self.config is None or self.network is None:
            return "", ""
        reason = lease.mismatch(self.config, dual)
        if not reason:
            return self._label, ""
        for choice in self.network.retiring:
            options = {"VNI": choice.options.get("vni", 1)} if choice.type == "vxlan" else {}
            former = replace(self.config, backend=choice.type, options=MappingProxyType(options))
            if not lease.mismatch(former, dual):
                return choice.label, ""
        return "", reason

    def _render(self, held: Held) -> list[Entry]:
        form, entry = self.form, held.entry
        if not held.cidrs:
            key = form.block_prefix + held.segment
            return [_as(entry, key, self._note(held))]
        if held.problem and entry.lease == 0 and held.lease is not None:
            return [self._reserved(held, cidr) for cidr in held.cidrs]
        entries = []
        for cidr in held.cidrs:
            value = self._note(held)
            if not held.problem:
                confirmed = held.holder is None or cidr.version not in held.holder.pending
                host_id = held.holder.host_id if held.holder else self._guest_id(held)
                value = encode(Block(form.network, cidr, host_id, confirmed).render())
            key = keys.block_key(form.network, cidr)
            entries.append(_as(entry, key, value))
        return entries

    def _reserved(self, held: Held, cidr: IPNetwork) -> Entry:
        assert held.lease is not None
        reason = f"{self.form.subnets}{held.segment} has no lease and names {held.lease.public_ip}"
        value = encode(Reservation(self.form.network, cidr, reason).render())
        key = keys.reservation_key(self.form.network, cidr)
        return _as(held.entry, key, value)

    def _note(self, held: Held) -> bytes:
        key = self.form.subnets + held.segment
        return unreadable(
            f"{key}: {held.problem}",
            f"mend the value or delete the key: etcdctl del {json.dumps(key)}",
        )

    def _guests(self, address: str) -> list[Held]:
        held = (self.held[segment] for segment in sorted(self._by_address.get(address, ())))
        return [each for each in held if each.holder is None and not each.problem]

    def _guest_id(self, held: Held) -> str:
        assert held.lease is not None
        return f"{GUEST}{held.lease.public_ip}"

    def _make_guest(self, address: str) -> list[Entry]:
        """Return the record of the host that runs flannel's daemon at an address."""
        guests = self._guests(address)
        guests += [
            each
            for segment in sorted(self._by_address.get(address, ()))
            if (each := self.held[segment]).holder and not each.untouched and self._rival(each)
        ]
        if not guests:
            return self._lost_guest(address)
        newest = max(guests, key=lambda each: each.entry.mod_revision)
        assert newest.lease is not None
        key = keys.host_key(GUEST + address)
        if len(guests) > 1 and len({_macs(each) for each in guests}) > 1:
            names = " and ".join(f"{self.form.subnets}{each.segment}" for each in guests)
            note = unreadable(
                f"two hosts have the public address {address}: {names} name different tunnel ends",
                "give each host its own address (-public-ip, -iface), and delete the older key",
            )
            return [_as(newest.entry, key, note)]
        return [_as(newest.entry, key, self._guest(newest))]

    def _lost_guest(self, address: str) -> list[Entry]:
        """Say that the host at an address cannot be read, so that its last good form stays."""
        held = (self.held[segment] for segment in sorted(self._by_address.get(address, ())))
        for each in held:
            reserved = each.lease is not None and each.entry.lease == 0
            if each.problem and each.holder is None and not reserved:
                return [_as(each.entry, keys.host_key(GUEST + address), self._note(each))]
        return []

    def _rival(self, held: Held) -> bool:
        """Tell whether another hand wrote another tunnel end into a lease of ours."""
        assert held.holder is not None
        assert held.lease is not None
        host = self.host(held.holder.host_id)
        mac = host.macs.get(self.form.network, "") if host else ""
        return held.lease.mac(4) not in ("", mac)

    def _guest(self, held: Held) -> bytes:
        lease, name = held.lease, self.form.network
        assert lease is not None
        # its daemon has one backend, for both directions
        there = self.network is not None and held.serves == self._label
        course = self._course if there else held.serves
        macs = {name: lease.mac(4), f"{name}/6": lease.mac(6)}
        return encode(
            Host(
                f"{GUEST}{lease.public_ip}",
                f"{GUEST}{lease.public_ip}",
                lease.public_ip,
                lease.public_ip6,
                MappingProxyType({key: mac for key, mac in macs.items() if mac}),
                MappingProxyType({name: (held.serves,)} if held.serves else {}),
                MappingProxyType({name: course} if held.serves else {}),
            ).render()
        )

    def _make_record(self, raw: str) -> list[Entry]:
        """Pass on what is ours, unless it claims to be something of flannel's."""
        entry, key = self.raw.get(raw), self.form.ours(raw)
        if entry is None or self.form.is_flannels(key) or key.startswith(keys.HOSTS + GUEST):
            return []
        return [replace(entry, key=key)]


def _as(entry: Entry, key: str, value: bytes) -> Entry:
    """Return what an entry of flannel's is among our records."""
    return Entry(key, value, entry.create_revision, entry.mod_revision)


def _macs(held: Held) -> tuple[str, str]:
    return (held.lease.mac(4), held.lease.mac(6)) if held.lease else ("", "")


def _add(index: dict[str, tuple[str, ...]], name: str, segment: str) -> None:
    index[name] = (*index.get(name, ()), segment)


def _remove(index: dict[str, tuple[str, ...]], name: str, segment: str) -> None:
    if segment in index.get(name, ()):
        left = index[name] = tuple(each for each in index[name] if each != segment)
        if not left:
            del index[name]


def unreadable(text: str, remedy: str) -> bytes:
    """Return the value that says of a key that it cannot be read, for ``reconcile/cluster``."""
    note: Mapping[str, Any] = {"unreadable": text, "remedy": remedy}
    return encode(note)
