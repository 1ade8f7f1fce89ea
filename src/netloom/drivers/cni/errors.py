"""An error as CNI knows it: a code, a message, details, in the caller's version."""

from __future__ import annotations

from typing import Any

from netloom.drivers.cni import codes
from netloom.model.errors import InvalidConfig, NetloomError


class CniError(NetloomError):
    """A call that ends with ``code``; ``hint`` becomes the protocol's ``details``."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message, hint=details)
        self.code = code
        self.exit_code = codes.exit_code_of(code)

    @classmethod
    def of(cls, error: NetloomError) -> CniError:
        """Translate an error of the agent's; message and remedy stay as they are."""
        if isinstance(error, CniError):
            return error
        return cls(codes.code_of(error), str(error), error.hint)

    def render(self, version: str) -> dict[str, Any]:
        """Return the document that goes to the runtime."""
        return {
            "cniVersion": version,
            "code": self.code,
            "msg": str(self),
            "details": self.hint,
        }


def invalid(field: str, value: object, why: str, hint: str = "") -> InvalidConfig:
    """Return the error for a field of the network configuration."""
    return InvalidConfig(f"{field}: {value!r} {why}", field=field, value=value, hint=hint)
