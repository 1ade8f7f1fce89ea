"""TUN devices: made by an ioctl, since rtnetlink cannot, and kept when their maker closes them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netloom.model.errors import Conflict, KernelRejected, NotPermitted

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TUN, _IFF_NO_PI, _IFF_TUN_EXCL = 0x0001, 0x1000, 0x8000
PLACE = Path("/dev/net/tun")


@contextmanager
def made(name: str) -> Iterator[None]:
    """Make TUN device ``name`` in this thread's namespace; it stays when the block ends well.

    Until then it goes with us, even if we are killed: no device is left without its mark. Raises
    Conflict when the name is taken, NotPermitted, KernelRejected.
    """
    try:
        file = os.open(PLACE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(name, error) from None
    try:
        _ioctl(name, file, _TUNSETIFF, _request(name))
        yield
        _ioctl(name, file, _TUNSETPERSIST, 1)
    finally:
        os.close(file)


def _request(name: str) -> bytes:
    return struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_TUN_EXCL)


def _ioctl(name: str, file: int, number: int, argument: bytes | int) -> None:
    try:
        fcntl.ioctl(file, number, argument)
    except OSError as error:
        raise _refusal(name, error) from None


def _refusal(name: str, error: OSError) -> Exception:
    if error.errno == errno.EBUSY:
        return Conflict(f"link {name} exists already", hint=f"see `ip link show {name}`")
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(
            f"may not make the TUN device {name}",
            hint="run as root, or with the capability CAP_NET_ADMIN",
        )
    absent = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
    hint = f"modprobe tun; in a container give it {PLACE}" if absent else ""
    return KernelRejected("add", f"link {name} type tun", error.errno or 0, str(error), hint=hint)
