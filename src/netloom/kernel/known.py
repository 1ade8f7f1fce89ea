"""What the writer believes to stand, so that news can be told from the echo of our own writes.

Netlink marks most notifications with the port of the socket that caused them, but not all: changes
of a link's settings and of a vxlan device's forwarding entries come without. Those are compared
with what is kept here. The writer notes what it is about to write; a read notes what is there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from netloom.model.addr import IPAddress
from netloom.model.kernel import Fdb, Link

_SETTINGS = ("kind", "alias", "mtu_bytes", "mac", "up", "hairpin", "vxlan", "ipip")


class Known:
    """Links by name and forwarding entries by (link number, MAC).

    ``changing_link`` is held while a link is changed: whoever holds it sees no half-made link.
    """

    def __init__(self) -> None:
        self.changing_link = threading.RLock()
        self.links: dict[str, Link] = {}
        self.fdb: dict[tuple[int, str], IPAddress] = {}

    def note_links(self, links: Iterable[Link]) -> None:
        """Take over what a read found."""
        self.links = {link.name: link for link in links}

    def note_fdb(self, entries: Iterable[Fdb], indexes: Mapping[str, int]) -> None:
        """Take over what a read found on the links whose numbers are given by name."""
        found = {(indexes[e.link], e.mac): e.remote for e in entries}
        # of equal ones those stay that the wanted objects share
        kept = {key: remote for key, remote in self.fdb.items() if found.get(key) == remote}
        self.fdb = kept | {key: remote for key, remote in found.items() if key not in kept}

    def stands(self, link: Link) -> bool:
        """Tell whether ``link``, as the kernel shows it, is what we believe to stand."""
        believed = self.links.get(link.name)
        return believed is not None and same_settings(believed, link)


def same_settings(wanted: Link, link: Link) -> bool:
    """Tell whether ``link`` has every setting that ``wanted`` gives, and is that very link."""
    if wanted.index and wanted.index != link.index:
        return False
    if wanted.master != link.master:
        return False
    return all(getattr(wanted, name) in (None, getattr(link, name)) for name in _SETTINGS)
