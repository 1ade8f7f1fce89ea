"""What etcd refuses, in our words.

The gateway answers an error with gRPC's status code and etcd's text
(etcdserver/api/v3rpc/rpctypes/error.go; codes: google.golang.org/grpc/codes).
"""

from __future__ import annotations

import json
from typing import Any

from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted, Unavailable
from netloom.store.etcd.url import PASSWORD_VARIABLE, Endpoint

NO_GATEWAY = -1
_CANCELLED, _UNKNOWN, _INVALID, _DEADLINE, NOT_FOUND, _DENIED, _EXHAUSTED = 1, 2, 3, 4, 5, 7, 8
_PRECONDITION, OUT_OF_RANGE, _INTERNAL, _AWAY, _DATA_LOSS, _UNAUTHENTICATED = 9, 11, 13, 14, 15, 16
_ELSEWHERE = {_CANCELLED, _UNKNOWN, _DEADLINE, _INTERNAL, _AWAY, _DATA_LOSS}
GRANT = "etcdctl role grant-permission ROLE --prefix=true readwrite /netloom/"
_AUTH_OFF = "authentication is not enabled"


class Refusal(Exception):
    """A member answered with an error. ``code`` is gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def without_leader(self) -> bool:
        """Tell whether the member refused for want of a leader: nothing was done, and it passes."""
        return self.code == _AWAY and "no leader" in str(self)

    @property
    def electing(self) -> bool:
        """Tell whether the members are about to have a leader again."""
        return self.code == _AWAY and ("no leader" in str(self) or "leader changed" in str(self))

    @property
    def elsewhere(self) -> bool:
        """Tell whether another member might answer what this one refuses."""
        return self.code in _ELSEWHERE

    @property
    def old_token(self) -> bool:
        """Tell whether a new token would help; nothing was done."""
        return self.code == _UNAUTHENTICATED or "auth store is old" in str(self)

    @property
    def auth_off(self) -> bool:
        """Tell whether the cluster knows no users at all."""
        return self.code == _PRECONDITION and _AUTH_OFF in str(self)

    @property
    def denied(self) -> bool:
        """Tell whether the user lacks a right."""
        return self.code == _DENIED


def parse(status: int, body: bytes) -> Refusal:
    """Return what an answer other than 200 says."""
    try:
        data = json.loads(body)
        return of_error(data)
    except (ValueError, TypeError, AttributeError):
        text = body[:120].decode(errors="replace").strip()
    if status == 404:
        return Refusal(NO_GATEWAY, "it has no JSON gateway")
    return Refusal(_AWAY, f"HTTP {status}: {text}")


def of_error(data: dict[str, Any]) -> Refusal:
    """Return the refusal in an error object: flat in answers, nested in streams."""
    inner = data.get("error")
    if isinstance(inner, dict):
        data = inner
    code = data.get("code", data.get("grpc_code", _UNKNOWN))
    message = data.get("message") or data.get("error") or "no reason given"
    return Refusal(int(code), str(message))


def translate(refusal: Refusal, endpoint: Endpoint, user: str) -> NetloomError:
    """Return the error to raise for a refusal that no other member would lift."""
    message = f"etcd at {endpoint}: {refusal}"
    if refusal.code == NO_GATEWAY:
        return InvalidConfig(
            message,
            field="datastore",
            value=str(endpoint),
            hint="needs etcd 3.4 or later with --enable-grpc-gateway (a config file turns it off "
            "unless it says enable-grpc-gateway: true)",
        )
    if "invalid user ID or password" in str(refusal):
        return NotPermitted(
            f"etcd at {endpoint} refuses user {user!r} or the password",
            hint=f"see ?user= and {PASSWORD_VARIABLE} or ?password-file=",
        )
    if "user name is empty" in str(refusal):
        hint = f"add ?user=NAME and put the password into {PASSWORD_VARIABLE} or ?password-file="
        text = f"etcd at {endpoint} wants a user and a password"
        return InvalidConfig(text, field="datastore", hint=hint)
    if refusal.denied or refusal.code == _UNAUTHENTICATED:
        return NotPermitted(f"{message} (user {user!r})", hint=GRANT)
    return _refused_request(refusal, message)


def _refused_request(refusal: Refusal, message: str) -> NetloomError:
    if "lease not found" in str(refusal):
        hint = "grant a new one and write the key again"
        return InvalidConfig("the lease does not exist or has ended", field="lease", hint=hint)
    if "space exceeded" in str(refusal):
        hint = "etcdctl compact, then etcdctl defrag, then etcdctl alarm disarm"
        return Unavailable(message, hint=hint)
    if refusal.code == _INVALID:
        hint = "see --max-txn-ops and --max-request-bytes of etcd"
        return InvalidConfig(message, field="transaction", hint=hint)
    return Unavailable(message)
