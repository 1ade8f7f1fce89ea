"""The leases of the host whose agent runs here: taken over, renewed, put back.

The store learns which host that is when its agent writes that it is alive. From then on:

- a lease with the host's public address that no host of ours has is taken over, as flannel does:
  its daemon ran here before. That happens at start alone; a hand that overwrites our lease later is
  another host with the same address, and both are named (``picture``);
- etcd's lease is kept alive by the calls that keep the liveness alive. Nothing is rewritten, so no
  peer wakes for it;
- a lease that vanished while we run (revoked, or ended in a long outage) is put back at once if its
  block is still free, and nobody above is told that it was gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from netloom.core.backends.vxlan import tunnel_mac
from netloom.model.datastore import Compare, Delete, Put, Store, Transaction
from netloom.model.errors import InvalidConfig, NetloomError
from netloom.model.host import Host
from netloom.model.network import Choice, Network
from netloom.store.flannel.document import encode
from netloom.store.flannel.held import Held, Holder
from netloom.store.flannel.layout import Format
from netloom.store.flannel.lease import Lease, of_host
from netloom.store.flannel.picture import Picture

_log = logging.getLogger(__name__)
#: A lease is renewed when this part of its life is over, or an hour.
_PART_OF_LIFE = 3
_LONGEST_PAUSE_S = 3600.0
#: What was put back is written once more no sooner than this, or both may reach others together.
APART_S = 2.0


@dataclass(frozen=True, slots=True)
class Own:
    """One lease of ours as it was last seen, with all that is needed to write it again."""

    segment: str
    lease: int
    value: bytes
    holder: Holder


class Holding:
    """The own leases, by segment. Safe for the agent's threads."""

    def __init__(
        self, store: Store, form: Format, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._form = form
        self._clock = clock
        self._lock = threading.Lock()
        self._own: dict[str, Own] = {}
        self._granted = 0
        self._renewed_s = float("-inf")
        #: What was put back and is to be written once more, and from when on.
        self._say_again: dict[str, float] = {}
        self._took_over = False
        self._incidents: list[str] = []
        self.host_id = ""
        #: Something changed that the own leases depend on.
        self.due = False

    def lease(self) -> int:
        """Return an etcd lease for a new key of this process."""
        with self._lock:
            if not self._granted or not self._store.keep_alive(self._granted):
                self._granted = self._store.grant(self._form.ttl_s)
            return self._granted

    def note(self, picture: Picture) -> None:
        """Remember the own leases that a listing or a change shows."""
        if not self.host_id:
            return
        for held in picture.of_host(self.host_id):
            if held.holder is not None:
                own = Own(held.segment, held.entry.lease, held.entry.value, held.holder)
                with self._lock:
                    self._own[held.segment] = own

    def forget(self, segment: str) -> None:
        """Let a lease go: it is given back on purpose."""
        with self._lock:
            self._own.pop(segment, None)

    def missing(self, picture: Picture) -> list[str]:
        """Return the own leases that ``picture`` lacks."""
        with self._lock:
            own = list(self._own)
        return [segment for segment in own if self._form.subnets + segment not in picture.raw]

    def take_incidents(self) -> tuple[str, ...]:
        """Return what happened to own leases since the last call, in sentences."""
        with self._lock:
            taken, self._incidents = tuple(self._incidents), []
            return taken

    def put_back(self, segment: str) -> bool:
        """Write an own lease again that is gone; False when another has the block by now."""
        with self._lock:
            own = self._own.get(segment)
        if own is None:
            return False
        lease = self.lease() if own.lease else 0
        key, beside = self._form.subnets + segment, self._form.holders + segment
        puts = [Put(key, own.value, lease), Put(beside, own.holder.render(), lease)]
        if not self._store.commit(Transaction(puts, [Compare(key, 0)])).succeeded:
            entry = self._store.get(key)
            if entry is not None and entry.value == own.value:  # it was put back already
                with self._lock:
                    self._own[segment] = replace(own, lease=entry.lease)
                return True
            self.forget(segment)
            self._note(f"lease {key} was gone, and another host has taken it")
            return False
        with self._lock:
            if segment in self._own:
                self._own[segment] = replace(own, lease=lease)
                self._say_again[segment] = self._clock() + APART_S
        self._note(f"lease {key} was gone (revoked, or it ended unrenewed) and is put back")
        return True

    def _note(self, incident: str) -> None:
        _log.warning("%s", incident)
        with self._lock:
            self._incidents.append(incident)

    def renew(self) -> None:
        """Keep the own leases alive when that is due; put back those that have ended."""
        self._repeat()
        pause_s = min(self._form.ttl_s / _PART_OF_LIFE, _LONGEST_PAUSE_S)
        now = self._clock()
        if now - self._renewed_s < pause_s:
            return
        with self._lock:
            own = list(self._own.values())
        for lease in {each.lease for each in own if each.lease}:
            if not self._store.keep_alive(lease):
                for each in own:
                    if each.lease == lease:
                        self.put_back(each.segment)
        self._renewed_s = now

    def _repeat(self) -> None:
        """Write once more what was put back a while ago.

        flannel's daemon takes the first of the changes that reach it together and drops the others
        (v0.20.2, subnet/etcd/registry.go, watchSubnets): it may know only that our lease was gone.
        """
        with self._lock:
            now = self._clock()
            due = [segment for segment, from_s in self._say_again.items() if from_s <= now]
            for segment in due:
                del self._say_again[segment]
            own = [self._own[segment] for segment in due if segment in self._own]
        for each in own:
            key = self._form.subnets + each.segment
            entry = self._store.get(key)
            if entry is None or entry.value != each.value:
                continue
            beside = Put(self._form.holders + each.segment, each.holder.render(), entry.lease)
            puts = [Put(key, each.value, entry.lease), beside]
            self._store.commit(Transaction(puts, [Compare(key, entry.mod_revision)]))

    def tend(self, picture: Picture) -> None:
        """Make the own leases say what is true of this host; take over what was flannel's."""
        self.due = False
        host = picture.host(self.host_id) if self.host_id else None
        if picture.network is None or picture.config is None or host is None:
            if self._form.deleted in picture.raw and self._form.config not in picture.raw:
                self._give_back(picture)
            return
        self._note_backend(picture)
        held = picture.of_host(self.host_id)
        if not self._took_over:
            held = held or self._predecessors(picture, host)
        for each in held:
            self._rewrite(picture, host, each)
        self._took_over = True

    def value(self, picture: Picture, host: Host, *, dual: bool) -> Lease:
        """Return what ``host`` writes into its lease. Raises InvalidConfig without addresses."""
        assert picture.config is not None
        name = self._form.network
        mac = host.macs.get(name) or tunnel_mac(name, host.id)
        return of_host(picture.config, (host.underlay4, host.underlay6), mac, dual=dual)

    def _predecessors(self, picture: Picture, host: Host) -> list[Held]:
        """Return the lease, if any, that flannel's daemon had for this host's address."""
        assert picture.network is not None
        pools = {pool.family: pool for pool in picture.network.pools}
        fitting = [
            held
            for held in picture.held.values()
            if held.holder is None
            and held.lease is not None
            and held.lease.public_ip == host.underlay4
            and {cidr.version for cidr in held.cidrs} == set(pools)
            and all(
                cidr.prefixlen == pools[cidr.version].block_size
                and cidr.overlaps(pools[cidr.version].cidr)
                for cidr in held.cidrs
            )
        ]
        fitting.sort(key=lambda held: held.entry.mod_revision)
        return fitting[-1:]

    def _rewrite(self, picture: Picture, host: Host, held: Held) -> None:
        """Write a lease of ours where it does not say what is true."""
        overwritten = held.holder is not None and not held.untouched
        if overwritten and self._took_over:
            return  # another host has our address: writing would be a war that nobody sees
        try:
            value = self.value(picture, host, dual=len(held.cidrs) > 1).render()
        except InvalidConfig as error:
            _log.warning("lease %s%s stays as it is: %s", self._form.subnets, held.segment, error)
            return
        if held.untouched and value == held.entry.value:
            return
        holder = held.holder or Holder(self.host_id)
        key = self._form.subnets + held.segment
        puts = [
            Put(key, value, held.entry.lease),
            Put(self._form.holders + held.segment, holder.render(), held.entry.lease),
        ]
        compare = Compare(key, held.entry.mod_revision)
        if self._store.commit(Transaction(puts, [compare])).succeeded:
            _log.info("lease %s is %s", key, "taken over" if held.holder is None else "rewritten")
            own = Own(held.segment, held.entry.lease, value, holder)
            with self._lock:
                self._own[held.segment] = own

    def _note_backend(self, picture: Picture) -> None:
        """Write which backend is in use, so that an edit of the config by hand is noticed."""
        network, key = picture.network, self._form.backend
        assert network is not None
        if key not in picture.raw or network.retiring:
            value = backend_note(network.backend, network)
            before = picture.raw.get(key)
            if before is None or before.value != value:
                compare = Compare(key, before.mod_revision if before else 0)
                config = picture.raw[self._form.config]
                unchanged = Compare(config.key, config.mod_revision)
                self._store.commit(Transaction([Put(key, value)], [compare, unchanged]))

    def _give_back(self, picture: Picture) -> None:
        """Delete the own leases of a network that was deleted."""
        for held in picture.of_host(self.host_id):
            self.forget(held.segment)
            key = self._form.subnets + held.segment
            doomed = [Delete(key), Delete(self._form.holders + held.segment)]
            try:
                self._store.commit(Transaction(doomed, [Compare(key, held.entry.mod_revision)]))
            except NetloomError as error:
                _log.warning("lease %s of a deleted network stays: %s", key, error)


def backend_note(current: Choice, network: Network) -> bytes:
    """Return the value that notes the backend in use, those that retire, and the moves so far."""
    retiring = [choice.render() for choice in network.retiring]
    note = {"current": current.render(), "retiring": retiring}
    return encode({**note, "moves": network.moves} if network.moves else note)
