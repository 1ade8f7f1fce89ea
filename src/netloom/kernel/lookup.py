"""Links by name and by number, asked of the kernel one at a time."""

from __future__ import annotations

import errno

from netloom.kernel import decode, encode_link
from netloom.kernel.netlink import Netlink
from netloom.model.errors import KernelRejected
from netloom.model.kernel import Link


class Lookup:
    """Answers from the kernel, numbers remembered until :meth:`forget`.

    For one thread at a time, like its socket.
    """

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._indexes: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def forget(self) -> None:
        """Ask the kernel anew from now on."""
        self._indexes.clear()
        self._names.clear()

    def learn(self, name: str, index: int) -> None:
        """Remember a link that was just made; 0 for one that is gone."""
        if index:
            self._indexes[name] = index
            self._names[index] = name
        else:
            self._names.pop(self._indexes.pop(name, 0), None)

    def learn_all(self, links: list[Link]) -> None:
        """Remember the links of a dump, and no others."""
        self._indexes = {link.name: link.index for link in links}
        self._names = {link.index: link.name for link in links}

    def index(self, name: str) -> int:
        """Return a link's number, 0 when there is none of this name."""
        if name not in self._indexes:
            self.find(name)
        return self._indexes.get(name, 0)

    def find(self, name: str) -> Link | None:
        """Return the link as it is now, or None."""
        payload = self._ask(encode_link.get(name), name)
        self.learn(name, 0)
        if payload is None:
            return None
        (link,) = decode.links([payload], self.name)
        self.learn(link.name, link.index)
        return link

    def name(self, index: int) -> str:
        """Return the name of the link with this number, or a made-up one when there is none."""
        if index not in self._names:
            payload = self._ask(encode_link.get_numbered(index), str(index))
            if payload is None:
                return decode.numbered(index)
            (link,) = decode.links([payload])
            self.learn(link.name, index)
        return self._names[index]

    def _ask(self, request: bytes, subject: str) -> bytes | None:
        ack, payloads = self._netlink.query(request)
        if ack.errno == errno.ENODEV:
            return None
        if ack.errno or not payloads:
            raise KernelRejected("read", f"link {subject}", ack.errno, ack.text)
        return payloads[0]
