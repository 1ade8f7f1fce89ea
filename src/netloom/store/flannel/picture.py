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
        self.held: dict[str, Held] = {}
        self._made: dict[str, tuple[str, ...]] = {}
        self._by_address: dict[str, set[str]] = {}
        self._by_host: dict[str, set[str]] = {}
        self._noted: dict[str, str] = {}
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
        twin.raw, twin.records, twin.held = dict(self.raw), dict(self.records), dict(self.held)
        twin._made, twin._noted = dict(self._made), dict(self._noted)
        twin._by_address = {key: set(held) for key, held in self._by_address.items()}
        twin._by_host = {key: set(held) for key, held in self._by_host.items()}
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
            changed |= self._make("config")
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
        return {str(held.lease.public_ip)} if held and held.lease else set()

    def _make(self, unit: str) -> set[str]:
        kind, _, name = unit.partition(" ")
        make = {
            "config": lambda _: self._make_network(),
            "lease": self._make_lease,
            "guest": self._make_guest,
            "record": self._make_record,
        }[kind]
        before = {key: self.records.pop(key, None) for key in self._made.get(unit, ())}
        entries = list(make(name))
        self._made[unit] = tuple(entry.key for entry in entries)
        if not entries:
            del self._made[unit]
        self.records.update((entry.key, entry) for entry in entries)
        return {
            key
            for key in {*before, *self._made.get(unit, ())}
            if before.get(key) != self.records.get(key)
        }

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
            return [replace(entry, key=key, value=unreadable(str(error), error.hint), lease=0)]
        self.config, self.network = config, network
        entries = [replace(entry, key=key, value=encode(network.render()), lease=0)]
        for reservation in config.reservations(form.network):
            place = keys.reservation_key(form.network, reservation.cidr)
            value = encode(reservation.render())
            entries.append(replace(entry, key=place, value=value, lease=0))
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
        self._by_host.get(self._noted.pop(segment, ""), set()).discard(segment)
        for address in self._address_of(segment):
            self._by_address.get(address, set()).discard(segment)
        entry = self.raw.get(self.form.subnets + segment)
        if entry is None:
            self.held.pop(segment, None)
            return []
        held = self.held[segment] = self._read(segment, entry)
        if held.lease is not None:
            self._by_address.setdefault(str(held.lease.public_ip), set()).add(segment)
        noted = self.raw.get(self.form.holders + segment)
        told = Holder.parse(noted.value) if noted else None
        if told is not None:
            self._by_host.setdefault(told.host_id, set()).add(segment)
            self._noted[segment] = told.host_id
        return self._render(held)

    def _read(self, segment: str, entry: Entry) -> Held:
        try:
            cidrs = parse_key(segment)
        except InvalidConfig as error:
            return Held(segment, entry, problem=str(error))
        try:
            lease = Lease.parse(entry.value, "value")
        except InvalidConfig as error:
            return Held(segment, entry, cidrs, problem=str(error))
        noted = self.raw.get(self.form.holders + segment)
        holder = Holder.parse(noted.value) if noted else None
        untouched = bool(noted) and noted is not None and noted.mod_revision == entry.mod_revision
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
            return self.network.backend.label, ""
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
            return [replace(entry, key=key, value=self._note(held), lease=0)]
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
            entries.append(replace(entry, key=key, value=value, lease=0))
        return entries

    def _reserved(self, held: Held, cidr: IPNetwork) -> Entry:
        assert held.lease is not None
        reason = f"{self.form.subnets}{held.segment} has no lease and names {held.lease.public_ip}"
        value = encode(Reservation(self.form.network, cidr, reason).render())
        key = keys.reservation_key(self.form.network, cidr)
        return replace(held.entry, key=key, value=value, lease=0)

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
            return []
        newest = max(guests, key=lambda each: each.entry.mod_revision)
        assert newest.lease is not None
        key = keys.host_key(GUEST + address)
        macs = {(each.lease.mac(4), each.lease.mac(6)) for each in guests if each.lease}
        if len(macs) > 1:
            names = " and ".join(f"{self.form.subnets}{each.segment}" for each in guests)
            note = unreadable(
                f"two hosts have the public address {address}: {names} name different tunnel ends",
                "give each host its own address (-public-ip, -iface), and delete the older key",
            )
            return [replace(newest.entry, key=key, value=note, lease=0)]
        return [replace(newest.entry, key=key, value=self._guest(newest), lease=0)]

    def _rival(self, held: Held) -> bool:
        """Tell whether another hand wrote another tunnel end into a lease of ours."""
        assert held.holder is not None
        assert held.lease is not None
        host = self.host(held.holder.host_id)
        mac = host.macs.get(self.form.network, "") if host else ""
        return held.lease.mac(4) not in ("", mac)

    def _course(self, held: Held) -> str:
        """Return what a guest sends by: its daemon has one backend, for both directions."""
        network = self.network
        there = network is not None and held.serves == network.backend.label
        return network.course if network and there else held.serves

    def _guest(self, held: Held) -> bytes:
        lease, name = held.lease, self.form.network
        assert lease is not None
        macs = {name: lease.mac(4), f"{name}/6": lease.mac(6)}
        return encode(
            Host(
                f"{GUEST}{lease.public_ip}",
                f"{GUEST}{lease.public_ip}",
                lease.public_ip,
                lease.public_ip6,
                MappingProxyType({key: mac for key, mac in macs.items() if mac}),
                MappingProxyType({name: (held.serves,)} if held.serves else {}),
                MappingProxyType({name: self._course(held)} if held.serves else {}),
            ).render()
        )

    def _make_record(self, raw: str) -> list[Entry]:
        """Pass on what is ours, unless it claims to be something of flannel's."""
        entry, key = self.raw.get(raw), self.form.ours(raw)
        if entry is None or self.form.is_flannels(key) or key.startswith(keys.HOSTS + GUEST):
            return []
        return [replace(entry, key=key)]


def unreadable(text: str, remedy: str) -> bytes:
    """Return the value that says of a key that it cannot be read, for ``reconcile/cluster``."""
    note: Mapping[str, Any] = {"unreadable": text, "remedy": remedy}
    return encode(note)
