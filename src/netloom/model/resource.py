"""Resources: settings of the cluster as documents of a kind and a name, in Calico's shape.

What Netloom keeps in records of its own (networks, hosts, reservations) is not kept here a second
time; ``core/resources`` tells which kinds are documents and which are views of records, and what a
``spec`` of each kind may hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields

API_VERSION = "projectcalico.org/v3"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
#: Hosts call themselves what they like; a Node is called as its host is, and `node.NAME` too.
_HOSTS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_KIND = re.compile(r"[A-Z][A-Za-z]{1,62}")
_LABEL = re.compile(r"[A-Za-z0-9_./-]{1,253}")
#: What Kubernetes' API servers add to the metadata, and exports bring along.
_OF_KUBERNETES = (
    "resourceVersion",
    "generation",
    "managedFields",
    "selfLink",
    "finalizers",
    "ownerReferences",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Resource:
    """One document. ``namespace`` is "" for kinds without one; ``spec`` is as it was written.

    ``uid`` and ``created`` (RFC 3339, UTC) are given at the first write and stay.
    """

    kind: str
    name: str
    spec: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    uid: str = ""
    created: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return (kind, namespace, name): no two resources have the same."""
        return self.kind, self.namespace, self.name

    @classmethod
    def parse(cls, data: object, where: str = "") -> Resource:
        """Parse ``{apiVersion, kind, metadata: {name, …}, spec}``; the spec stays unread.

        A ``resourceVersion`` in the metadata and a ``status`` are left out: they are the store's to
        say. Raises InvalidConfig naming the field.
        """
        fields = Fields(data, where)
        fields.take("apiVersion")
        kind = fields.take_required("kind")
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise InvalidConfig(
                f"{fields.path('kind')}: {kind!r} is not a kind",
                field=fields.path("kind"),
                value=kind,
                hint="e.g. BGPPeer",
            )
        meta = Fields(fields.take_required("metadata"), fields.path("metadata"))
        resource = cls(
            kind,
            _name(kind, meta.take_required("name"), meta.path("name")),
            MappingProxyType(fields.take_map("spec")),
            _namespace(meta),
            _texts(meta, "labels"),
            _texts(meta, "annotations"),
            meta.take_str("uid"),
            meta.take_str("creationTimestamp"),
        )
        for ignored in _OF_KUBERNETES:
            meta.take(ignored)
        meta.done()
        fields.take("status")
        fields.done()
        return resource

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        meta: dict[str, Any] = {"name": self.name}
        for name, value in (
            ("namespace", self.namespace),
            ("labels", dict(self.labels)),
            ("annotations", dict(self.annotations)),
            ("uid", self.uid),
            ("creationTimestamp", self.created),
        ):
            if value:
                meta[name] = value
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": meta,
            "spec": dict(self.spec),
        }


def parse_resource_name(text: object, where: str) -> str:
    """Return a DNS subdomain name of at most 253 characters. Raises InvalidConfig."""
    return _matching(_NAME, text, where, "lower-case letters, digits, '-' and '.', e.g. rack1-tor")


def parse_node_name(text: object, where: str) -> str:
    """Return a host's name by which resources can name it. Raises InvalidConfig."""
    allowed = "letters, digits, '-', '_' and '.', at most 253, e.g. rack1-host7"
    return _matching(_HOSTS, text, where, allowed)


def _matching(pattern: re.Pattern[str], text: object, where: str, allowed: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise InvalidConfig(
            f"{where}: {text!r} is not a valid name",
            field=where,
            value=text,
            hint=f"use {allowed}",
        )
    return text


def _name(kind: str, text: object, where: str) -> str:
    if kind == "Node" or str(text).startswith("node."):
        return parse_node_name(text, where)
    return parse_resource_name(text, where)


def check_text(value: object, where: str) -> None:
    """Refuse a label's value that YAML did not read as a text. Raises InvalidConfig."""
    if not isinstance(value, str):
        raise InvalidConfig(
            f"{where}: {value!r} is not a text",
            field=where,
            value=value,
            hint=f'put it in quotes: "{value}"',
        )


def _namespace(meta: Fields) -> str:
    text = meta.take("namespace")
    return parse_resource_name(text, meta.path("namespace")) if text else ""


def _texts(meta: Fields, name: str) -> Mapping[str, str]:
    texts = meta.take_map(name)
    for key, value in texts.items():
        where = f"{meta.path(name)}.{key}"
        if not isinstance(key, str) or not _LABEL.fullmatch(key):
            raise InvalidConfig(
                f"{where}: {key!r} is not a key",
                field=where,
                value=key,
                hint="use letters, digits, '_', '.', '-' and '/'",
            )
        check_text(value, where)
    return MappingProxyType({str(key): str(value) for key, value in texts.items()})
