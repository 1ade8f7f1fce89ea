"""The error codes that cross the CNI protocol, both ways: our errors to codes, codes to exits.

Codes 1-99 are the specification's; from 100 on they are a plugin's own and ours are published in
docs/cni.md. A reader who finds a new code here writes it there too.
"""

from __future__ import annotations

from netloom.model.errors import (
    Bug,
    Conflict,
    Exhausted,
    InvalidConfig,
    KernelRejected,
    NetloomError,
    NotPermitted,
    Unavailable,
)

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
BAD_ENVIRONMENT = 4
IO_FAILURE = 5
BAD_JSON = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
CONFLICT = 100
EXHAUSTED = 101
NOT_PERMITTED = 102
KERNEL_REJECTED = 103
CHECK_FAILED = 104
BUG = 999

#: From the narrow to the wide: the first class that fits gives the code.
_BY_ERROR: tuple[tuple[type[NetloomError], int], ...] = (
    (Exhausted, EXHAUSTED),
    (Conflict, CONFLICT),
    (InvalidConfig, INVALID_CONFIG),
    (NotPermitted, NOT_PERMITTED),
    (Unavailable, TRY_AGAIN_LATER),
    (KernelRejected, KERNEL_REJECTED),
    (Bug, BUG),
)

_EXIT_CODES = {
    INCOMPATIBLE_VERSION: InvalidConfig.exit_code,
    UNSUPPORTED_FIELD: InvalidConfig.exit_code,
    BAD_ENVIRONMENT: InvalidConfig.exit_code,
    BAD_JSON: InvalidConfig.exit_code,
    INVALID_CONFIG: InvalidConfig.exit_code,
    INVALID_NETNS: InvalidConfig.exit_code,
    TRY_AGAIN_LATER: Unavailable.exit_code,
    NOT_AVAILABLE: Unavailable.exit_code,
    LIMITED_CONNECTIVITY: Unavailable.exit_code,
    CONFLICT: Conflict.exit_code,
    EXHAUSTED: Exhausted.exit_code,
    NOT_PERMITTED: NotPermitted.exit_code,
    KERNEL_REJECTED: KernelRejected.exit_code,
}


def code_of(error: NetloomError) -> int:
    """Return the CNI code that tells a runtime what ``error`` means."""
    if isinstance(error, InvalidConfig) and error.field == "netns":
        return INVALID_NETNS
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), BUG)


def exit_code_of(code: int) -> int:
    """Return Netloom's exit code for a plugin's failure with ``code``."""
    return _EXIT_CODES.get(code, NetloomError.exit_code)
