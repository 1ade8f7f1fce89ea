"""What an etcd datastore URL says: endpoints, certificates, user, prefix.

::

    etcd://h1:2379,h2:2379,[fd00::3]:2379
    etcds://h1:2379?ca=/etc/netloom/ca.pem&cert=/etc/netloom/me.pem&key=/etc/netloom/me.key
    etcds://h1:2379?user=netloom&password-file=/etc/netloom/etcd-password&prefix=/tenant-a

A password never stands in a URL, which everyone sees in ``ps``: it comes from the environment
(``NETLOOM_ETCD_PASSWORD``) or from a file.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace

from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.model.fields import nearest
from netloom.store.limits import check_key

PASSWORD_VARIABLE = "NETLOOM_ETCD_PASSWORD"  # noqa: S105 - the variable's name, not a password
PLAIN, TLS = ("etcd",), ("etcds", "etcd+tls")
EXAMPLE = "e.g. etcd://192.168.31.62:2379,192.168.31.63:2379"
_FILES = ("ca", "cert", "key")
_OPTIONS = (*_FILES, "user", "password-file", "prefix")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one member listens for clients; ``host`` is a name or an address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files, "" where not given: then the system's authorities, no certificate."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class EtcdUrl:
    """A parsed URL; ``tls`` is None for plain HTTP. ``password`` is kept out of every message."""

    endpoints: tuple[Endpoint, ...]
    tls: TlsFiles | None = None
    user: str = ""
    password: str = ""
    prefix: str = ""

    def __repr__(self) -> str:
        return f"<EtcdUrl {','.join(map(str, self.endpoints))}>"


def parse_url(url: str, environment: Mapping[str, str] | None = None) -> EtcdUrl:
    """Parse a datastore URL and read its password. Raises InvalidConfig, NotPermitted."""
    parsed, options = _parse(url)
    password = _password(url, options, os.environ if environment is None else environment)
    return replace(parsed, password=password)


def check_url(url: str) -> None:
    """Refuse what no change outside the URL can mend; no password is read. Raises InvalidConfig."""
    _parse(url)


def _parse(url: str) -> tuple[EtcdUrl, dict[str, str]]:
    scheme, _, rest = url.partition("://")
    if scheme not in (*PLAIN, *TLS):
        raise _wrong(url, f"unknown scheme {scheme!r}", "write etcd:// or, with TLS, etcds://")
    place, _, query = rest.partition("?")
    place, slash, path = place.partition("/")
    if path:
        hint = f"write ?prefix=/{path} to keep all keys below it"
        raise _wrong(url, f"a path has no meaning: {slash}{path}", hint)
    if "@" in place:
        # the value is left out: it may hold the password
        raise _wrong(
            "",
            "a user or password stands before '@'",
            f"write ?user=NAME and put the password into {PASSWORD_VARIABLE} or ?password-file=",
        )
    endpoints = tuple(_endpoint(url, text) for text in place.split(","))
    options = _options(url, query)
    tls = _tls(url, scheme, options)
    check_key(options["prefix"])
    unique = tuple(dict.fromkeys(endpoints))
    return EtcdUrl(unique, tls, options["user"], prefix=options["prefix"]), options


def _endpoint(url: str, text: str) -> Endpoint:
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _wrong(url, f"endpoint {text!r}: {error}", EXAMPLE) from None
    if "://" in text or "/" in text or not host or any(c.isspace() for c in text):
        raise _wrong(url, f"{text!r} is no endpoint", f"write host:port, {EXAMPLE}")
    if not port:
        raise _wrong(url, f"endpoint {text!r} has no port", f"write {text.rstrip(':')}:2379")
    return Endpoint(host, port)


def _options(url: str, query: str) -> dict[str, str]:
    options = dict.fromkeys(_OPTIONS, "")
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise _wrong(url, f"options {query!r}: {error}", "write ?name=value&name=value") from None
    seen = set()
    for name, value in pairs:
        if name == "password":
            hint = f"put it into {PASSWORD_VARIABLE} or name a file with ?password-file="
            raise _wrong("", "a password in a URL is seen by everyone on this machine", hint)
        if name not in options:
            raise _wrong(url, f"unknown option {name!r}", nearest(name, _OPTIONS))
        if name in seen or not value:
            raise _wrong(url, f"option {name!r} is {'twice' if value else 'empty'}", "")
        seen.add(name)
        options[name] = value
    return options


def _tls(url: str, scheme: str, options: Mapping[str, str]) -> TlsFiles | None:
    files = TlsFiles(*(options[name] for name in _FILES))
    if scheme in PLAIN:
        if files != TlsFiles():
            raise _wrong(
                url, "certificates are given, yet etcd:// is without TLS", "write etcds://"
            )
        return None
    if bool(files.cert) != bool(files.key):
        missing = "key" if files.cert else "cert"
        raise _wrong(url, f"a client certificate needs its {missing} too", f"add &{missing}=…")
    return files


def _password(url: str, options: Mapping[str, str], environment: Mapping[str, str]) -> str:
    path, user = options["password-file"], options["user"]
    if not user:
        if path:
            raise _wrong(url, "a password is given but no user", "add &user=NAME")
        return ""
    if not path:
        password = environment.get(PASSWORD_VARIABLE, "")
        if not password:
            hint = f"put it into {PASSWORD_VARIABLE} or name a file with &password-file="
            raise _wrong(url, f"user {user!r} needs a password", hint)
        return password
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().removesuffix("\n")
    except PermissionError:
        raise NotPermitted(
            f"password file {path} is not readable", hint="run as root, or change its mode"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise _wrong(url, f"password file {path}: {reason}", "name a file that holds it") from None


def _wrong(url: str, message: str, hint: str) -> InvalidConfig:
    return InvalidConfig(f"datastore: {message}", field="datastore", value=url or None, hint=hint)
