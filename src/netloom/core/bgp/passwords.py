"""Passwords of sessions: which files are wanted, and whether BIRD can read what is in them.

Their texts are nowhere but in these files and in BIRD's configuration. A session whose password
cannot be had is left out: without one it would not come up, or with whom it should not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from netloom.core.resources.bgp import parse_configuration, parse_peer
from netloom.model.errors import InvalidConfig
from netloom.model.secret import Secret, SecretText
from netloom.model.view import Cluster, Problem

#: The longest key of TCP MD5 signatures (linux/tcp.h, TCP_MD5SIG_MAXKEYLEN).
MOST_BYTES = 80


class Password(NamedTuple):
    """What is known of a password. ``text`` None: the session cannot be."""

    text: str | None
    problem: Problem | None = None


def wanted(cluster: Cluster) -> frozenset[Secret]:
    """Return all secrets that BGP resources name."""
    found: set[Secret | None] = set()
    for (kind, _, _), resource in cluster.resources.items():
        try:
            if kind == "BGPPeer":
                found.add(parse_peer(resource).password)
            elif kind == "BGPConfiguration":
                found.add(parse_configuration(resource).mesh_password)
        except InvalidConfig:
            continue  # said by those who need the rest of it, too
    return frozenset(each for each in found if each)


def password(
    secret: Secret | None, secrets: Mapping[Secret, SecretText], subject: str, field: str
) -> Password:
    """Return the text of ``secret``, "" when none is asked for, and what is wrong with it."""
    if secret is None:
        return Password("")
    found = secrets.get(secret, SecretText(None, f"the secret {secret} was not read yet"))
    if found.text is not None and (complaint := misread(found.text)):
        found = SecretText(None, f"the secret {secret} {complaint[0]}", complaint[1])
    if not found.trouble:
        return Password(found.text)
    return Password(found.text, Problem("error", subject, f"{field}: {found.trouble}", found.hint))


def misread(text: str) -> tuple[str, str] | None:
    """Return why BIRD or the kernel would not take ``text`` as it is, and the remedy.

    BIRD knows no escapes in a text (conf/cf-lex.l); what would end one cannot be in it. The text
    itself is not told.
    """
    if not text:
        return "is empty", "write a password into its file"
    if any(sign == '"' or not sign.isprintable() for sign in text):
        return (
            "has a quote, a line's end or another sign that BIRD cannot read",
            "choose one without quotes, line ends and control characters",
        )
    if len(text.encode()) > MOST_BYTES:
        return (
            f"is longer than {MOST_BYTES} bytes",
            "choose a shorter one: the kernel takes no more (TCP MD5)",
        )
    return None
