"""When a certificate is valid: the two dates of an X.509 certificate, and no more.

The standard library tells them only of a peer that it trusts; that a peer's (or our own) has
expired is just when one wants to know. DER: ITU-T X.690; the certificate's fields: RFC 5280 §4.1.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

_UTC_TIME, _GENERALIZED_TIME, _VERSION, _SEQUENCE = 0x17, 0x18, 0xA0, 0x30
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when; both in UTC."""

    begins: datetime
    ends: datetime

    def problem(self, now: datetime) -> str:
        """Say what is wrong with the certificate at ``now``; "" when nothing is."""
        if now > self.ends:
            return f"expired on {self.ends:%Y-%m-%d %H:%M} UTC"
        if now < self.begins:
            return (
                f"is not valid before {self.begins:%Y-%m-%d %H:%M} UTC and this machine's clock "
                f"says {now:%Y-%m-%d %H:%M} UTC"
            )
        return ""


def now() -> datetime:
    """Return this machine's time, which certificates are held against."""
    return datetime.now(UTC)


def validity_of_pem(text: str) -> Validity:
    """Return the dates of the first certificate in a PEM file. Raises ValueError."""
    start, end = text.find(_BEGIN), text.find(_END)
    if start < 0 or end < start:
        raise ValueError("it holds no certificate in PEM form")
    return validity(ssl.PEM_cert_to_DER_cert(text[start : end + len(_END)]))


def validity(der: bytes) -> Validity:
    """Return the dates of a certificate. Raises ValueError."""
    try:
        _, certificate, _ = _element(der)
        _, signed, _ = _element(certificate)
        tag, _, rest = _element(signed)
        if tag == _VERSION:
            _, _, rest = _element(rest)
        for _ in ("signature algorithm", "issuer"):
            _, _, rest = _element(rest)
        tag, dates, _ = _element(rest)
        if tag != _SEQUENCE:
            raise ValueError("its dates are not where they belong")
        first, begins, rest = _element(dates)
        second, ends, _ = _element(rest)
        return Validity(_time(first, begins), _time(second, ends))
    except IndexError:
        raise ValueError("it is cut short") from None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and what follows it."""
    tag, length, at = data[0], data[1], 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if at + length > len(data):
        raise IndexError
    return tag, data[at : at + length], data[at + length :]


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280 §4.1.2.5.1: 50 and more is of the last century
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("its dates are of an unknown kind")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
