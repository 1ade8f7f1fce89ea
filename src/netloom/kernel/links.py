"""Changes to links: made whole or not at all, in place where the kernel can, anew where it cannot.

A veth pair is one link: both ends and the container's interior stand when its ADD is done, and
nothing of it when the ADD failed.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby

from netloom.core.ownership import is_lasting, is_vacant
from netloom.kernel import decode, encode_link, interior, namespaces, refusals, tun
from netloom.kernel.encode_link import Surroundings
from netloom.kernel.known import Known
from netloom.kernel.lookup import Lookup
from netloom.kernel.namespaces import opened
from netloom.kernel.netlink import Ack, Netlink
from netloom.kernel.readiness import await_ready
from netloom.model.errors import Bug, NetloomError
from netloom.model.kernel import ALIAS_PREFIX, Link
from netloom.reconcile.contracts import Change, Verb


class Links:
    """Carries out changes to links over the writer's socket.

    ``home`` is the identity of the namespace that the socket is in: no container's.
    """

    def __init__(
        self, netlink: Netlink, lookup: Lookup, known: Known, home: tuple[int, int]
    ) -> None:
        self._netlink = netlink
        self._home = home
        self._lookup = lookup
        self._known = known

    def apply(self, changes: Sequence[Change]) -> Iterator[NetloomError | None]:
        """Carry out changes in order; yield what stood against each."""
        for verb, run in groupby(changes, key=lambda change: change.verb):
            if verb is Verb.DELETE:
                with self._known.changing_link:
                    verdicts = self._delete(list(run))
                yield from verdicts
                continue
            for change in run:
                with self._known.changing_link:
                    verdict = self._try(self._add if verb is Verb.ADD else self._replace, change)
                yield verdict

    def _try(self, step: Callable[[Change], None], change: Change) -> NetloomError | None:
        try:
            step(change)
        except NetloomError as error:
            return error
        return None

    def _add(self, change: Change) -> None:
        link = _link_of(change)
        if is_lasting(link):
            self._take(change)
            return
        standing = self._lookup.find(link.name)
        if standing is not None:
            raise refusals.link_conflict(link, standing)
        if link.kind == "tun":
            self._create_tun(change)
            return
        with ExitStack() as stack:
            netns_fd = stack.enter_context(opened(link.peer.netns)) if link.peer else -1
            if link.peer and namespaces.identity_of(netns_fd) == self._home:
                raise refusals.own_namespace(link.peer)
            lower = self._index_of(change, link.vxlan.device if link.vxlan else "")
            master = self._index_of(change, link.master or "")
            around = Surroundings(lower, master, netns_fd)
            self._create(change, encode_link.create(link, around))
        try:
            self._finish(change, self._lookup.index(link.name))
        except BaseException:
            self._remove(link.name, self._lookup.index(link.name))
            raise

    def _take(self, change: Change) -> None:
        """Make the device of a module ours; to ask for one has the kernel load the module.

        The module then makes its device before ours could be made: "exists" is what we hope for.
        """
        link = _link_of(change)
        standing = self._lookup.find(link.name)
        if standing is None:
            bare = Link(link.name, link.kind, up=None, ipip=link.ipip)
            (ack,) = self._netlink.send([encode_link.create(bare, Surroundings())])
            if ack.errno not in (0, errno.EEXIST):
                raise refusals.refusal(change, ack)
            standing = self._lookup.find(link.name)
        if standing is None:
            raise refusals.no_such_link(change, link.name)
        if not is_vacant(standing):
            raise refusals.link_conflict(link, standing)
        self._known.links[link.name] = replace(link, index=standing.index)
        self._send(change, self._differences(change, standing))

    def _create_tun(self, change: Change) -> None:
        """Create a TUN device with its alias; it stays when it is whole."""
        link = _link_of(change)
        if namespaces.identity() != self._home:
            raise Bug(f"{link.name} would be made in another namespace than the one that is ours")
        try:
            with tun.made(link.name):
                index = self._lookup.index(link.name)
                self._known.links[link.name] = replace(link, index=index)
                self._send(change, [encode_link.complete(link), encode_link.settings(index, link)])
        except BaseException:
            self._known.links.pop(link.name, None)
            self._lookup.learn(link.name, 0)
            raise

    def _create(self, change: Change, request: bytes) -> None:
        """Create the link with its alias in one send."""
        link = _link_of(change)
        self._known.links[link.name] = link
        created, completed = self._netlink.send([request, encode_link.complete(link)])
        if not created.errno and not completed.errno:
            return
        del self._known.links[link.name]
        if not created.errno:
            self._remove(link.name, self._lookup.index(link.name))
        elif not completed.errno:
            # Another hand made a link of this name in between; it must not look like ours.
            self._netlink.send([encode_link.name_alias(link.name, "")])
        raise self._refusal(change, created if created.errno else completed)

    def _finish(self, change: Change, index: int) -> None:
        """Set what creation does not take, and the container's end."""
        link = _link_of(change)
        self._known.links[link.name] = replace(link, index=index)
        if link.hairpin is not None and link.master:
            self._send(change, [encode_link.hairpin(index, link.hairpin)])
        if link.peer:
            interior.configure(link.peer)
            above = [self._lookup.index(link.master)] if link.master else []
            await_ready(self._netlink, [index, *above])

    def _replace(self, change: Change) -> None:
        link = _link_of(change)
        standing = self._lookup.find(link.name)
        if standing is None:
            self._add(change)
            return
        if not _may_touch(change, standing):
            raise refusals.link_conflict(link, standing)
        if (link.kind, link.vxlan, link.ipip) != (standing.kind, standing.vxlan, standing.ipip):
            self._remove(link.name, standing.index)
            self._add(change)
            return
        self._known.links[link.name] = replace(link, index=standing.index)
        requests = self._differences(change, standing)
        shrinks = (link.mtu_bytes or 0) < (standing.mtu_bytes or 0)
        # At no time is the container's end the larger one.
        if link.peer and shrinks:
            interior.resize(link.peer)
        if requests:
            self._send(change, requests)
        if link.peer and link.mtu_bytes != standing.mtu_bytes and not shrinks:
            interior.resize(link.peer)

    def _differences(self, change: Change, standing: Link) -> list[bytes]:
        """Return requests for what differs, and for nothing else.

        To set a MAC that is right already would make the kernel forget the link's neighbours.
        """
        link = _link_of(change)
        master = None
        if link.master != standing.master:
            master = self._index_of(change, link.master or "")
        differing = replace(
            link,
            alias=link.alias if link.alias != standing.alias else "",
            mac=link.mac if link.mac != standing.mac else None,
            mtu_bytes=link.mtu_bytes if link.mtu_bytes != standing.mtu_bytes else None,
            up=link.up if link.up != standing.up else None,
            group=link.group if link.group != standing.group else None,
        )
        requests = []
        if master is not None or differing.alias or _any_given(differing):
            requests.append(encode_link.settings(standing.index, differing, master))
        if link.hairpin is not None and link.master and link.hairpin != standing.hairpin:
            requests.append(encode_link.hairpin(standing.index, link.hairpin))
        return requests

    def _delete(self, changes: Sequence[Change]) -> list[NetloomError | None]:
        """Delete links, all together: the kernel waits for its readers once, not once for each."""
        verdicts: list[NetloomError | None] = [None] * len(changes)
        doomed: dict[int, int] = {}
        for place, change in enumerate(changes):
            try:
                if index := self._doomed(change):
                    doomed[place] = index
            except NetloomError as error:
                verdicts[place] = error
        for place in doomed:
            name = _link_of(changes[place]).name
            self._known.links.pop(name, None)
            self._lookup.learn(name, 0)
        for place in [place for place in doomed if is_lasting(changes[place].obj)]:
            verdicts[place] = self._give_back(changes[place], doomed.pop(place))
        if len(doomed) > 1 and self._delete_together(list(doomed.values())):
            return verdicts
        for place, index in doomed.items():
            (ack,) = self._netlink.send([encode_link.delete(index)])
            if ack.errno and not refusals.is_absent(changes[place], ack):
                verdicts[place] = refusals.refusal(changes[place], ack)
        return verdicts

    def _give_back(self, change: Change, index: int) -> NetloomError | None:
        """Leave a device that cannot be deleted as its module made it: down and without a mark."""
        (ack,) = self._netlink.send([encode_link.give_back(index)])
        gone = not ack.errno or refusals.is_absent(change, ack)
        return None if gone else refusals.refusal(change, ack)

    def _doomed(self, change: Change) -> int:
        """Return the number of the link to delete; 0 when it is gone already."""
        link = _link_of(change)
        standing = self._lookup.find(link.name)
        if standing is None or (link.index and link.index != standing.index):
            return 0  # ours is gone; one of the same name may have come since
        if not link.index and not _may_touch(change, standing):
            raise refusals.link_conflict(link, standing)
        return standing.index

    def _delete_together(self, indexes: Sequence[int]) -> bool:
        """Put links into a group of their own and delete the group; False when one may be left.

        The group has a number that nobody has chosen: nobody else's link can be in it.
        """
        group = secrets.randbits(30) + (1 << 30)
        requests = [encode_link.join_group(index, group) for index in indexes]
        *joined, deleted = self._netlink.send([*requests, encode_link.delete_group(group)])
        return not deleted.errno and all(ack.errno in (0, errno.ENODEV) for ack in joined)

    def _remove(self, name: str, index: int) -> None:
        self._known.links.pop(name, None)
        self._lookup.learn(name, 0)
        if index:
            self._netlink.send([encode_link.delete(index)])

    def _index_of(self, change: Change, name: str) -> int:
        """Return the number of a link that ``change`` leans on; 0 for none ("")."""
        index = self._lookup.index(name) if name else 0
        if name and not index:
            raise refusals.no_such_link(change, name)
        return index

    def _send(self, change: Change, requests: list[bytes]) -> None:
        for ack in self._netlink.send(requests):
            if ack.errno:
                raise self._refusal(change, ack)

    def _refusal(self, change: Change, ack: Ack) -> NetloomError:
        link = _link_of(change)
        if ack.errno != errno.EEXIST:
            return refusals.refusal(change, ack)
        standing = self._lookup.find(link.name)
        if standing is not None:
            return refusals.link_conflict(link, standing)
        if link.vxlan:
            for other in decode.links(self._netlink.dump(encode_link.dump(), "links")):
                if other.vxlan and (other.vxlan.vni, other.vxlan.port) == (
                    link.vxlan.vni,
                    link.vxlan.port,
                ):
                    return refusals.vni_conflict(link, other)
        if link.peer:
            return refusals.interior_conflict(link.peer)
        return refusals.existing(change)


def _link_of(change: Change) -> Link:
    if not isinstance(change.obj, Link):
        raise Bug(f"{change} is no change of a link")
    return change.obj


def _may_touch(change: Change, standing: Link) -> bool:
    """Tell whether a link is ours, or the very one that the planner chose to change."""
    was = change.was
    chosen = isinstance(was, Link) and was.index == standing.index != 0
    return chosen or standing.alias.startswith(ALIAS_PREFIX)


def _any_given(link: Link) -> bool:
    return any(value is not None for value in (link.mac, link.mtu_bytes, link.up, link.group))
