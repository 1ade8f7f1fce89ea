"""From a datastore's URL to an open store."""

from __future__ import annotations

import os

from netloom.model.datastore import Store
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

SCHEMES = ("sqlite", "etcd", "kubernetes")
_ETCD = ("etcd", "etcds", "etcd+tls")
_EXAMPLE = "e.g. sqlite:///var/lib/netloom/cluster.db"


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the store that ``url`` names, creating an absent SQLite file if ``create``.

    ``sqlite:///absolute/path``; ``etcd://host:port,host:port`` or, with TLS, ``etcds://`` (see
    ``store/etcd/url.py``); with ``?format=flannel`` on flannel's own keys (``store/flannel``);
    ``kubernetes://`` is known and refused for now.
    Raises InvalidConfig, NotPermitted, Unavailable, each with the remedy.
    """
    scheme, rest = _parts(url)
    if scheme == "sqlite":
        return _open_sqlite(_sqlite_path(url, rest), create)
    return _open_etcd(url)


def check_url(url: str) -> None:
    """Refuse what can never be opened, whatever comes back or is mended. Raises InvalidConfig."""
    scheme, rest = _parts(url)
    if scheme == "sqlite":
        _sqlite_path(url, rest)
        return
    from netloom.store.etcd.url import check_url as check_etcd_url  # noqa: PLC0415
    from netloom.store.flannel.url import take_format  # noqa: PLC0415

    check_etcd_url(take_format(url)[0])


def _parts(url: str) -> tuple[str, str]:
    """Return the scheme, one that can be opened, and what follows it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise _wrong(url, f"{url!r} is not a datastore URL", _EXAMPLE)
    if scheme not in (*SCHEMES, *_ETCD):
        raise _wrong(url, f"unknown datastore {scheme!r}", nearest(scheme, SCHEMES))
    if scheme not in ("sqlite", *_ETCD):
        raise _wrong(
            url,
            f"the {scheme} datastore cannot be used yet",
            f"use etcd, or share a SQLite file on this machine, {_EXAMPLE}",
        )
    return scheme, rest


def _open_etcd(url: str) -> Store:
    # HTTP and TLS take a while to load, and most that open a store open SQLite's
    from netloom.store.etcd.store import EtcdStore  # noqa: PLC0415
    from netloom.store.flannel.adapter import FlannelStore  # noqa: PLC0415
    from netloom.store.flannel.url import take_format  # noqa: PLC0415

    place, form = take_format(url)
    store = EtcdStore(place)
    return FlannelStore(store, form) if form else store


def _sqlite_path(url: str, path: str) -> str:
    if not path.startswith("/"):
        remedy = f"write an absolute path: sqlite://{os.path.abspath(path)}" if path else _EXAMPLE
        raise _wrong(url, f"{url!r} names no absolute path", remedy)
    if path.endswith("/"):
        raise _wrong(url, f"{url!r} names a directory", f"name a file in it, {_EXAMPLE}")
    return os.path.normpath(path)


def _open_sqlite(path: str, create: bool) -> Store:
    # a process that never opens a store (the CNI front, `--help`) need not load SQLite
    from netloom.store.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(path, create=create)


def _wrong(url: str, message: str, hint: str) -> InvalidConfig:
    return InvalidConfig(f"datastore: {message}", field="datastore", value=url, hint=hint)
