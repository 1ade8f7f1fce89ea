"""Transactions on our records, translated into ones on flannel's keys.

Pure: from a picture, a transaction of ours and the lease for new keys to the raw transaction. A
condition that is known not to hold makes :class:`Lost`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from netloom.core.ipam.blocks import block_at, block_of, free_numbers
from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Compare, Delete, Put, Transaction
from netloom.model.errors import Exhausted, InvalidConfig, Unavailable
from netloom.model.host import Block, Host
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.store.flannel.config import FlannelConfig, render
from netloom.store.flannel.held import Held, Holder
from netloom.store.flannel.holding import Holding, backend_note
from netloom.store.flannel.lease import render_key
from netloom.store.flannel.picture import Picture
from netloom.store.flannel.records import GUEST

Operation = Put | Delete


class Lost(Exception):
    """A condition of the transaction does not hold."""


class Translation:
    """One transaction being translated; ``new_lease`` grants the lease of a new key."""

    def __init__(self, picture: Picture, holding: Holding, new_lease: Callable[[], int]) -> None:
        self._picture = picture
        self._form = picture.form
        self._holding = holding
        self._new_lease = new_lease
        self._compares: dict[str, int] = {}
        self._operations: list[Operation] = []
        #: Segments that the transaction gives back.
        self.given_back: list[str] = []

    def translate(self, transaction: Transaction) -> Transaction:
        """Return the raw transaction. Raises Lost, InvalidConfig, Unavailable, Exhausted."""
        for compare in transaction.compares:
            self._expect(compare)
        for operation in transaction.operations:
            if operation.key == keys.network_key(self._form.network):
                self._network(operation)
            elif operation.key.startswith(self._form.block_prefix):
                self._block(operation)
            elif operation.key.startswith(keys.HOSTS):
                self._host(operation)
            else:
                self._plain(operation)
        compares = [Compare(key, revision) for key, revision in self._compares.items()]
        return Transaction(self._operations, compares)

    def _expect(self, compare: Compare) -> None:
        """Take a condition on a record as conditions on what it is made of."""
        key, picture, form = compare.key, self._picture, self._form
        record = picture.records.get(key)
        if form.is_flannels(key):
            if (record.mod_revision if record else 0) != compare.mod_revision:
                raise Lost
            if key == keys.network_key(form.network):
                for raw in (form.config, form.backend):
                    self._unchanged(raw)
            else:
                held = self._held(key)
                if held is not None and record is None:
                    raise Lost  # it is reserved: no block, yet not free
                self._unchanged(held.entry.key if held else form.subnets + self._segment(key))
        elif not key.startswith(keys.HOSTS + GUEST):
            self._compares[form.raw(key)] = compare.mod_revision

    def _unchanged(self, raw: str) -> None:
        entry = self._picture.raw.get(raw)
        self._compares[raw] = entry.mod_revision if entry else 0

    def _plain(self, operation: Operation) -> None:
        record = self._picture.records.get(operation.key)
        raw = self._form.raw(operation.key)
        if record is not None and raw not in self._picture.raw and isinstance(operation, Delete):
            raise InvalidConfig(
                f"{operation.key} is not ours to delete: it follows from {self._form.root}",
                field="key",
                value=operation.key,
                hint=f"edit {self._form.config} (SubnetMin, SubnetMax) or the key in "
                f"{self._form.subnets}",
            )
        self._operations.append(_moved(operation, raw))

    def _network(self, operation: Operation) -> None:
        form, picture = self._form, self._picture
        if isinstance(operation, Delete):
            self._operations += [Delete(form.config), Delete(form.backend), Put(form.deleted, b"")]
            return
        wanted = Network.parse(json.loads(operation.value), operation.key)
        before = picture.raw.get(form.config)
        if before is None or not _means(before.value, wanted):
            value = render(wanted, before.value if before and picture.config else None)
            self._operations.append(Put(form.config, value))
        told = FlannelConfig.parse(render(wanted)).network(form.network).backend
        self._operations.append(Put(form.backend, backend_note(told, wanted)))
        self._operations.append(Delete(form.deleted))

    def _host(self, operation: Operation) -> None:
        """Write a host's record, and with it what its leases say of the host."""
        if operation.key.startswith(keys.HOSTS + GUEST):
            return  # it goes with its leases
        self._operations.append(_moved(operation, self._form.raw(operation.key)))
        if isinstance(operation, Delete) or self._picture.config is None:
            return
        host = Host.parse(json.loads(operation.value), operation.key)
        for held in self._picture.of_host(host.id):
            try:
                lease = self._holding.value(self._picture, host, dual=len(held.cidrs) > 1)
            except InvalidConfig:
                continue  # without an address for a moment: what stands there stays
            if held.untouched and held.holder and lease.render() != held.entry.value:
                self._unchanged(held.entry.key)
                self._put_lease(held.segment, lease.render(), held.holder, held.entry.lease)

    def _block(self, operation: Operation) -> None:
        held = self._held(operation.key)
        if isinstance(operation, Delete):
            if held is not None:
                self.given_back.append(held.segment)
                self._unchanged(held.entry.key)
                self._operations.append(Delete(held.entry.key))
                self._operations.append(Delete(self._form.holders + held.segment))
            return
        block = Block.parse(json.loads(operation.value), operation.key)
        cidr = block.cidr
        host = self._picture.host(block.host_id)
        if self._picture.config is None:
            raise Unavailable(f"there is no configuration that can be read at {self._form.config}")
        if host is None:
            raise Unavailable(f"host {block.host_id} has no record yet, which its lease is made of")
        segment = held.segment if held else self._segment(operation.key)
        families = {part.version for part in (held.cidrs if held else self._pair(cidr))}
        pending = held.holder.pending if held and held.holder else frozenset(families)
        pending = (pending - {cidr.version}) if block.confirmed else (pending | {cidr.version})
        value = self._holding.value(self._picture, host, dual=len(families) > 1).render()
        self._unchanged(self._form.subnets + segment)
        lease = held.entry.lease if held else self._new_lease()
        self._put_lease(segment, value, Holder(block.host_id, frozenset(pending)), lease)

    def _put_lease(self, segment: str, value: bytes, holder: Holder, lease: int) -> None:
        self._operations.append(Put(self._form.subnets + segment, value, lease))
        self._operations.append(Put(self._form.holders + segment, holder.render(), lease))

    def _held(self, key: str) -> Held | None:
        """Return the lease behind a block's key; a key that does not parse names its own."""
        tail = key.rpartition("/")[2]
        try:
            return self._picture.find(keys.parse_cidr_segment(tail))
        except InvalidConfig:
            return self._picture.held.get(key.removeprefix(self._form.block_prefix))

    def _segment(self, key: str) -> str:
        """Return the key of the lease that a claim of a free block would make."""
        return render_key(self._pair(keys.parse_cidr_segment(key.rpartition("/")[2])))

    def _pair(self, cidr: IPNetwork) -> tuple[IPNetwork, ...]:
        """Return the blocks that one lease has: with two families, one of each.

        The other family's is the one with the same number, so that two hosts that claim one block
        at once write one key; where it is taken, the lowest that is free.
        """
        network = self._picture.network
        other = (
            next((p for p in network.pools if p.family != cidr.version), None) if network else None
        )
        own = (
            next((p for p in network.pools if p.family == cidr.version), None) if network else None
        )
        if network is None or other is None or own is None:
            return (cidr,)
        taken = [part for held in self._picture.held.values() for part in held.cidrs]
        number = _number(own, cidr)
        free = free_numbers(other, taken, self._left_out(network))
        if any(first <= number <= last for first, last in free):
            match = block_at(other, number)
        elif free:
            match = block_at(other, free[0][0])
        else:
            raise Exhausted(
                f"network {network.name}: pool {other.cidr} has no free /{other.block_size} block",
                hint="widen the range in flannel's configuration",
            )
        return (cidr, match) if cidr.version == 4 else (match, cidr)

    def _left_out(self, network: Network) -> list[IPNetwork]:
        config = self._picture.config
        return [each.cidr for each in config.reservations(network.name)] if config else []


def _moved(operation: Operation, key: str) -> Operation:
    if isinstance(operation, Delete):
        return Delete(key)
    return Put(key, operation.value, operation.lease)


def _means(text: bytes, wanted: Network) -> bool:
    """Tell whether a configuration says ``wanted`` already, but for what it cannot say."""
    try:
        return render(FlannelConfig.parse(text).network(wanted.name)) == render(wanted)
    except InvalidConfig:
        return False


def _number(pool: Pool, cidr: IPNetwork) -> int:
    first = block_of(pool, cidr)
    size = 1 << (pool.cidr.max_prefixlen - pool.block_size)
    return (int(first.network_address) - int(pool.cidr.network_address)) // size
