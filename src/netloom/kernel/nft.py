"""Our nftables table in the kernel: read as canonical text, written in one transaction.

Reading costs a process only when the ruleset has changed: the kernel counts its transactions, and
asking for the count is one netlink message. The table is always replaced as a whole, which packets
never notice: either they meet the old table or the new one. Connections that are under way keep
their translation, since that is conntrack's; ``kernel/conntrack`` ends those that must not.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Sequence

from netloom.kernel import commands, conntrack
from netloom.kernel.netlink import split
from netloom.kernel.wire import attributes, string
from netloom.model.errors import KernelRejected, NetloomError
from netloom.model.kernel import NFT_TABLE, KernelObject, NftTable
from netloom.reconcile.contracts import Change, Outcome, Verb

_NETLINK_NETFILTER = 12
_GET_GENERATION = (10 << 8) | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_NLM_F_REQUEST = 1
_GEN_ID = 1  # NFTA_GEN_ID, 32 bits, big endian
_GET_CHAIN = (10 << 8) | 4  # NFT_MSG_GETCHAIN
_NEW_CHAIN = (10 << 8) | 3
_NLM_F_DUMP = 0x300
_CHAIN_TABLE, _CHAIN_NAME = 1, 3  # NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_
_ERRNOS = {os.strerror(number): number for number in errno.errorcode}


class NftTables:
    """The table ``inet netloom`` of the namespace that the calling thread is in.

    One writer at a time, and always the same namespace: generations are remembered.
    """

    def __init__(self) -> None:
        #: What we wrote last, and the generation that this made.
        self._written: tuple[int, str] | None = None
        #: How this nft prints what we wrote: its text → ours. Empty with nft 1.0.6.
        self._spelling: dict[str, str] = {}
        self._generation: int | None = None
        self._text = ""

    def read(self) -> list[KernelObject]:
        """Return our table as text, or nothing when it does not exist."""
        now = generation()
        if now is None or now != self._generation:
            self._text = _list()
            # Another hand may have changed it meanwhile: then the next read must look again.
            self._generation = now if now == generation() else None
            self._learn()
        if not self._text:
            return []
        return [NftTable(self._spelling.get(self._text, self._text))]

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try each change; each is one transaction that happens wholly or not at all."""
        return [Outcome(change, self._try(change)) for change in changes]

    def _try(self, change: Change) -> NetloomError | None:
        assert isinstance(change.obj, NftTable)
        try:
            if change.verb is Verb.DELETE:
                self._submit("delete", "")
            else:
                self._replace(change.obj.text)
        except NetloomError as error:
            return error
        return None

    def _replace(self, text: str) -> None:
        before = generation()
        self._submit("write", text)
        conntrack.forget_udp(conntrack.changed_udp_ports(self._text, text))
        # One transaction adds one, and skips 0; another hand's in between adds more.
        self._written = (before % 0xFFFFFFFF + 1, text) if before is not None else None

    def _submit(self, verb: str, text: str) -> None:
        # "add" makes "delete" well where there is no table.
        script = f"add table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\n{text}"
        done = commands.run("nft", "-f", "-", stdin=script)
        if done.code:
            number = errno_in(done.error)
            raise KernelRejected(verb, f"nft table inet {NFT_TABLE}", number, done.complaint)

    def _learn(self) -> None:
        """Find out how this nft prints what we wrote, so that its spelling is not taken for drift.

        Only what is sure to be ours is learnt: the ruleset is still at the generation that our own
        transaction made.
        """
        if self._written is None or self._text == "" or self._generation != self._written[0]:
            return
        text = self._written[1]
        self._spelling = {} if self._text == text else {self._text: text}


def _list() -> str:
    """Return our table as nft prints it, "" when there is none."""
    done = commands.run("nft", "-s", "list", "table", "inet", NFT_TABLE)
    if done.code == 0:
        return done.output
    number = errno_in(done.error)
    if number == errno.ENOENT:
        return ""
    raise KernelRejected("read", f"nft table inet {NFT_TABLE}", number, done.complaint)


def errno_in(message: str) -> int:
    """Return the number of the system error in nft's message; EINVAL for an error of nft's own."""
    first = message.partition("\n")[0]
    for part in re.split(r"[:;] ", first):
        if part in _ERRNOS:
            return _ERRNOS[part]
    return errno.EINVAL


def chains() -> frozenset[tuple[str, str, str]]:
    """Return family, table and name of every chain, without a process.

    None when they cannot be had.
    """
    request = struct.pack("=IHHIIBBH", 20, _GET_CHAIN, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0, 0, 0, 0)
    found: set[tuple[str, str, str]] = set()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(5)
            channel.sendto(request, (0, 0))
            while True:
                for kind, _, _, payload in split(channel.recv(64 << 10)):
                    if kind != _NEW_CHAIN:  # the end of the dump, or a refusal
                        return frozenset(found)
                    fields = dict(attributes(payload, 4))
                    names = string(fields[_CHAIN_TABLE]), string(fields[_CHAIN_NAME])
                    found.add((_FAMILIES.get(payload[0], ""), *names))
    except OSError:
        return frozenset()


def generation() -> int | None:
    """Return the number of the last transaction of the ruleset; None when it cannot be had."""
    request = struct.pack("=IHHIIBBH", 20, _GET_GENERATION, _NLM_F_REQUEST, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(5)
            channel.sendto(request, (0, 0))
            answer = channel.recv(8192)
    except OSError:
        return None  # not permitted or no nf_tables: nft itself says which
    attributes = answer[20 : struct.unpack_from("=I", answer)[0]]
    while len(attributes) >= 8:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind & 0x3FFF == _GEN_ID:
            number: int = struct.unpack_from(">I", attributes, 4)[0]
            return number
        attributes = attributes[(max(length, 4) + 3) & ~3 :]
    return None
