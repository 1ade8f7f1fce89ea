"""The host's journal as records: reading all of it, and the operations that change it.

The journal is a store on the host's own disk. An endpoint's record *is* the allocation of its
addresses: there is no second list that could disagree with it. ``agent/addresses.py`` keeps an
index of it in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from netloom.model.addr import IPAddress, parse_address
from netloom.model.datastore import Delete, Entry, Put, Store
from netloom.model.endpoint import Endpoint
from netloom.model.errors import NetloomError
from netloom.model.host import Block
from netloom.model.keys import (
    JOURNAL,
    JOURNAL_BLOCKS,
    JOURNAL_ENDPOINTS,
    JOURNAL_FREED,
    JOURNAL_HOST,
    JOURNAL_LENT,
    journal_block_key,
    journal_endpoint_key,
    journal_freed_key,
    journal_lent_key,
)
from netloom.model.view import Problem


@dataclass(frozen=True, slots=True)
class Record:
    """One endpoint as the journal holds it; ``endpoint`` is None when it does not parse.

    ``addresses`` of a record that does not parse are those that could still be made out: they
    stay taken. ``revision`` is the record's, for the next change's condition.
    """

    key: str
    handle: str
    network: str
    addresses: tuple[IPAddress, ...]
    endpoint: Endpoint | None
    revision: int


@dataclass(slots=True)
class Contents:
    """All that the journal holds. ``freed`` is sorted, freed longest ago first.

    ``host_id`` is "" for a journal that nobody began yet. ``lent``: to whom, of which network.
    """

    host_id: str = ""
    records: list[Record] = field(default_factory=list)
    freed: list[tuple[int, str, IPAddress]] = field(default_factory=list)
    lent: list[tuple[str, IPAddress, str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(journal: Store) -> Contents:
    """Read the whole journal; what does not parse becomes a problem and harms nothing else.

    Raises Unavailable when the journal cannot be read.
    """
    contents = Contents()
    for entry in journal.list(JOURNAL).entries:
        for prefix, take in _TAKING.items():
            if entry.key.startswith(prefix):
                take(contents, entry)
    contents.freed.sort(key=lambda mark: mark[0])
    return contents


def record_of(endpoint: Endpoint, revision: int) -> Record:
    """Return the record of ``endpoint`` as written at ``revision``."""
    key = journal_endpoint_key(endpoint.network, endpoint.container_id, endpoint.ifname)
    return Record(key, endpoint.handle, endpoint.network, endpoint.addresses, endpoint, revision)


def write_host(host_id: str) -> Put:
    """Return the operation that makes the journal this host's."""
    return Put(JOURNAL_HOST, host_id.encode())


def write_endpoint(endpoint: Endpoint) -> Put:
    """Return the operation that writes an endpoint's record."""
    key = journal_endpoint_key(endpoint.network, endpoint.container_id, endpoint.ifname)
    return Put(key, encode(endpoint.render()))


def write_freed(network: str, address: IPAddress, order: int) -> Put:
    """Return the operation that remembers that ``address`` was freed; ``order`` only grows."""
    return Put(journal_freed_key(network, address), str(order).encode())


def erase_freed(network: str, address: IPAddress) -> Delete:
    """Return the operation that forgets that ``address`` was freed."""
    return Delete(journal_freed_key(network, address))


def write_lent(network: str, address: IPAddress, host_id: str) -> Put:
    """Return the operation that remembers that ``address`` is lent to another host."""
    return Put(journal_lent_key(network, address), host_id.encode())


def erase_lent(network: str, address: IPAddress) -> Delete:
    """Return the operation that forgets that ``address`` was lent."""
    return Delete(journal_lent_key(network, address))


def write_block(block: Block) -> Put:
    """Return the operation that remembers a block."""
    return Put(journal_block_key(block.network, block.cidr), encode(block.render()))


def erase_block(block: Block) -> Delete:
    """Return the operation that forgets a block."""
    return Delete(journal_block_key(block.network, block.cidr))


def encode(document: dict[str, Any]) -> bytes:
    """Return the compact JSON of a rendered value."""
    return json.dumps(document, separators=(",", ":")).encode()


def _take_host(contents: Contents, entry: Entry) -> None:
    contents.host_id = entry.value.decode(errors="replace")


def _take_endpoint(contents: Contents, entry: Entry) -> None:
    record = _read_record(entry)
    contents.records.append(record)
    if record.endpoint is None:
        remedy = f"netloom ipam release --handle {record.handle}, when its container is gone"
        contents.problems.append(_unreadable(entry, remedy))


def _take_freed(contents: Contents, entry: Entry) -> None:
    network, _, text = entry.key.removeprefix(JOURNAL_FREED).rpartition("/")
    # The worst that comes of one that cannot be read is an address that counts as never used.
    with suppress(ValueError, NetloomError):
        contents.freed.append((int(entry.value), network, parse_address(text, entry.key)))


def _take_lent(contents: Contents, entry: Entry) -> None:
    network, _, text = entry.key.removeprefix(JOURNAL_LENT).rpartition("/")
    try:
        address = parse_address(text, entry.key)
    except NetloomError:
        contents.problems.append(_unreadable(entry, "delete the key: it names no address"))
        return
    contents.lent.append((network, address, entry.value.decode(errors="replace")))


def _take_block(contents: Contents, entry: Entry) -> None:
    try:
        contents.blocks.append(Block.parse(json.loads(entry.value), entry.key))
    except (ValueError, NetloomError):
        contents.problems.append(_unreadable(entry, "it is written anew from the store"))


_TAKING: Mapping[str, Callable[[Contents, Entry], None]] = {
    JOURNAL_HOST: _take_host,
    JOURNAL_ENDPOINTS: _take_endpoint,
    JOURNAL_FREED: _take_freed,
    JOURNAL_LENT: _take_lent,
    JOURNAL_BLOCKS: _take_block,
}


def _read_record(entry: Entry) -> Record:
    try:
        document = json.loads(entry.value)
    except ValueError:
        document = None
    try:
        endpoint = Endpoint.parse(document, entry.key)
        record = record_of(endpoint, entry.mod_revision)
        if record.key == entry.key:
            return record
    except NetloomError:
        pass
    # A newer version's record, perhaps, or a damaged one: what it holds must not be dealt again.
    handle = entry.key.removeprefix(JOURNAL_ENDPOINTS).replace("/", ".")
    network = entry.key.removeprefix(JOURNAL_ENDPOINTS).partition("/")[0]
    return Record(
        entry.key, handle, network, _salvage(document), endpoint=None, revision=entry.mod_revision
    )


def _salvage(document: object) -> tuple[IPAddress, ...]:
    texts = document.get("addresses") if isinstance(document, dict) else None
    found = []
    for text in texts if isinstance(texts, list) else []:
        try:
            found.append(parse_address(text, "addresses"))
        except NetloomError:
            continue
    return tuple(found)


def _unreadable(entry: Entry, remedy: str) -> Problem:
    return Problem("error", f"key {entry.key}", "the host's journal cannot be read here", remedy)
