"""A network: a named address space and its four choices.

A choice is a ``type`` and that type's own options, kept as they were written; the module that
implements the type parses the options (``core/backends/*``, ``core/attach/*``). So adding a type
changes nothing here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from netloom.model.addr import Family
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.pool import Pool

_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
ADDRESSING_MODES = ("host-block", "on-demand")
MIN_MTU = {4: 576, 6: 1280}
MAX_MTU = 65535


def parse_name(text: object, where: str) -> str:
    """Return a DNS-label-like name of at most 63 characters. Raises InvalidConfig."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise InvalidConfig(
            f"{where}: {text!r} is not a valid name",
            field=where,
            value=text,
            hint="use lower-case letters, digits, '-' and '.', at most 63, e.g. 'blue'",
        )
    return text


def parse_device(text: object, where: str, most: int = 15) -> str:
    """Return an interface name of at most ``most`` characters. Raises InvalidConfig.

    Narrower than the kernel's rule: no '%', which asks the kernel for a number, and neither of
    the two names that mean every interface in ``/proc/sys/net``.
    """
    if not isinstance(text, str) or not _DEVICE.fullmatch(text) or len(text) > most:
        raise InvalidConfig(
            f"{where}: {text!r} is not a device name",
            field=where,
            value=text,
            hint=f"use letters, digits, '_', '-' and '.', at most {most}, e.g. cni0",
        )
    if text in ("all", "default", "lo"):
        raise InvalidConfig(
            f"{where}: {text!r} has a meaning of its own and cannot be a device of ours",
            field=where,
            value=text,
            hint="choose another name, e.g. cni0",
        )
    return text


@dataclass(frozen=True, slots=True)
class Addressing:
    """Which addresses a host deals out.

    ``host-block``: each host claims one block per pool at start. ``on-demand``: a host claims a
    block when it first needs one, and further ones up to ``max_blocks_per_host`` per pool. With
    ``borrowing`` a host that finds no free block takes single addresses out of others' blocks.
    """

    mode: str = "host-block"
    max_blocks_per_host: int = 1
    borrowing: bool = False

    @classmethod
    def parse(cls, data: object, where: str) -> Addressing:
        """Parse ``{mode, maxBlocksPerHost, borrowing}`` or just the mode's name."""
        fields = Fields({"mode": data} if isinstance(data, str) else data, where)
        mode = fields.take_str("mode", "host-block")
        if mode not in ADDRESSING_MODES:
            raise InvalidConfig(
                f"{fields.path('mode')}: unknown mode {mode!r}",
                field=fields.path("mode"),
                value=mode,
                hint=nearest(mode, ADDRESSING_MODES),
            )
        limit = fields.take_int("maxBlocksPerHost", 1 if mode == "host-block" else 20, 1, 4096)
        borrowing = fields.take_bool("borrowing", False)
        if borrowing and mode == "host-block":
            raise InvalidConfig(
                f"{fields.path('borrowing')}: with mode host-block a host has the addresses of its "
                "own block and no others",
                field=fields.path("borrowing"),
                value=True,
                hint="choose mode: on-demand",
            )
        fields.done()
        return cls(mode, limit, borrowing)

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        said = {"mode": self.mode, "maxBlocksPerHost": self.max_blocks_per_host}
        return {**said, "borrowing": True} if self.borrowing else said


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a network's choices: the type's name and its options as the user wrote them."""

    type: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, data: object, where: str, default: str) -> Choice:
        """Parse ``{type, …options}`` or just the type's name; the options stay unread."""
        fields = Fields({"type": data} if isinstance(data, str) else (data or {}), where)
        kind = fields.take_str("type", default)
        return cls(kind, MappingProxyType(fields.rest()))

    @property
    def label(self) -> str:
        """Return the choice on one line, ``vxlan vni=1``: equal for equal choices."""
        words = (f"{key}={_plain(self.options[key])}" for key in sorted(self.options))
        return " ".join([self.type, *words])

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {"type": self.type, **self.options}


@dataclass(frozen=True, slots=True)
class Network:
    """A named address space and its four choices. ``mtu_bytes`` 0 means: from the underlay.

    ``retiring`` are backends that the hosts still serve while the network moves from them to
    ``backend``, the oldest last; it empties by itself (``core/moving``). ``moves`` counts the moves
    begun, so that what a host said in an earlier one is not taken for its word on this one.
    """

    name: str
    pools: tuple[Pool, ...]
    addressing: Addressing = Addressing()
    attachment: Choice = Choice("bridge")
    backend: Choice = Choice("vxlan")
    policy: Choice = Choice("none")
    mtu_bytes: int = 0
    retiring: tuple[Choice, ...] = ()
    moves: int = 0

    @property
    def course(self) -> str:
        """The backend and the move that led to it: what a host says when it has arrived."""
        return f"{self.backend.label} ({self.moves})" if self.moves else self.backend.label

    @property
    def moving_from(self) -> tuple[Choice, ...]:
        """The retiring backends without the one that is wanted again."""
        return tuple(choice for choice in self.retiring if choice.label != self.backend.label)

    @property
    def families(self) -> tuple[Family, ...]:
        """The address families of the pools, 4 before 6."""
        return tuple(sorted({pool.family for pool in self.pools}))

    @classmethod
    def parse(cls, data: object, where: str = "") -> Network:
        """Parse a network's definition; options of the choices are checked by ``core``.

        Raises InvalidConfig naming the field, its value and the remedy.
        """
        fields = Fields(data, where)
        name = parse_name(fields.take_required("name"), fields.path("name"))
        addressing = Addressing.parse(fields.take("addressing", {}), fields.path("addressing"))
        sizes = {4: 24, 6: 64} if addressing.mode == "host-block" else {4: 26, 6: 122}
        pools = tuple(
            Pool.parse(item, fields.path(f"pools[{index}]"), default_block_size=sizes)
            for index, item in enumerate(fields.take_list("pools"))
        )
        if not pools:
            raise fields.missing(
                "pools", "a network needs at least one pool, e.g. pools: [{cidr: 10.244.0.0/16}]"
            )
        _refuse_overlap(pools, fields)
        network = cls(
            name,
            pools,
            addressing,
            Choice.parse(fields.take("attachment"), fields.path("attachment"), "bridge"),
            Choice.parse(fields.take("backend"), fields.path("backend"), "vxlan"),
            Choice.parse(fields.take("policy"), fields.path("policy"), "none"),
            fields.take_int("mtu", 0, 0, MAX_MTU),
            tuple(
                Choice.parse(item, fields.path(f"retiring[{index}]"), "vxlan")
                for index, item in enumerate(fields.take_list("retiring"))
            ),
            fields.take_int("moves", 0, 0, 1 << 53),
        )
        fields.done()
        _check_mtu(network, fields.path("mtu"))
        return network

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "name": self.name,
            "pools": [pool.render() for pool in self.pools],
            "addressing": self.addressing.render(),
            "attachment": self.attachment.render(),
            "backend": self.backend.render(),
            "policy": self.policy.render(),
            "mtu": self.mtu_bytes,
            **(
                {"retiring": [choice.render() for choice in self.retiring]} if self.retiring else {}
            ),
            **({"moves": self.moves} if self.moves else {}),
        }


def _plain(value: Any) -> str:
    """Return an option's value on one line, whatever the order of an object's fields."""
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else str(value)


def _refuse_overlap(pools: tuple[Pool, ...], fields: Fields) -> None:
    for index, pool in enumerate(pools):
        for other in range(index):
            if pool.family == pools[other].family and pool.cidr.overlaps(pools[other].cidr):
                where = fields.path(f"pools[{index}].cidr")
                raise InvalidConfig(
                    f"{where}: {pool.cidr} overlaps pools[{other}] {pools[other].cidr}",
                    field=where,
                    value=str(pool.cidr),
                    hint="choose ranges that are disjoint",
                )


def _check_mtu(network: Network, where: str) -> None:
    least = max(MIN_MTU[family] for family in network.families)
    if network.mtu_bytes and network.mtu_bytes < least:
        raise InvalidConfig(
            f"{where}: {network.mtu_bytes} is below the least MTU {least} of "
            f"{'IPv6' if least == MIN_MTU[6] else 'IPv4'}",
            field=where,
            value=network.mtu_bytes,
            hint=f"choose at least {least}, or 0 for automatic",
        )
