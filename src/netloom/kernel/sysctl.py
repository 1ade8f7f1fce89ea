"""Settings under ``/proc/sys/net`` of the namespace that the calling thread is in.

Names use '/' as separator (``ipv4/conf/cni0/route_localnet``), since device names may hold dots.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from netloom.kernel.namespaces import in_namespace
from netloom.model.errors import InvalidConfig, KernelRejected, NetloomError, NotPermitted
from netloom.model.kernel import KernelObject, Sysctl
from netloom.reconcile.contracts import Change, Outcome, Verb

ROOT = Path("/proc/sys/net")
#: What is absent below these folders comes with a kernel module.
_MODULES = {"bridge": "br_netfilter", "netfilter": "nf_conntrack", "mpls": "mpls_router"}


class Sysctls:
    """The sysctls that somebody asked for; only these are read."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._names: set[str] = set()

    def want(self, names: Iterable[str]) -> None:
        """Name sysctls that :meth:`read` shall report from now on."""
        self._names.update(names)

    def forget(self, names: Iterable[str]) -> None:
        """Report these no longer: their device is gone, or nobody needs them."""
        self._names.difference_update(names)

    def read(self) -> list[KernelObject]:
        """Return the wanted ones that exist, sorted by name."""
        values = ((name, read(name, self._root)) for name in sorted(self._names))
        return [Sysctl(name, value) for name, value in values if value is not None]

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Set what each change says; what is right already is not written, nothing is deleted."""
        outcomes = []
        for change in changes:
            sysctl, problem = change.obj, None
            assert isinstance(sysctl, Sysctl)
            try:
                if change.verb is not Verb.DELETE:
                    self._names.add(sysctl.name)
                    write(sysctl.name, sysctl.value, self._root)
            except NetloomError as error:
                problem = error
            outcomes.append(Outcome(change, problem))
        return outcomes


def read(name: str, root: Path = ROOT) -> str | None:
    """Return a sysctl's value with single blanks between its parts; None when it is absent."""
    try:
        return " ".join(_path(name, root).read_text("utf-8").split())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # Some are not readable for everyone, and a device's vanish while they are being read.
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return None
        raise _translated(name, "read", error) from None


def read_of_machine(name: str, machine: str | os.PathLike[str] = "/proc/1/ns/net") -> str | None:
    """Return the value of a sysctl that the first network namespace alone has; None if unseen.

    It is looked for in this namespace, then in that of ``machine``: process 1 is in the first one,
    unless all of this runs in a container.
    """
    value = read(name)
    if value is None:
        with suppress(NetloomError):  # without the right to enter, or without a process 1 to see
            value = in_namespace(machine, lambda: read(name))
    return value


def write(name: str, value: str, root: Path = ROOT) -> bool:
    """Set a sysctl unless it has that value; tell whether it was written.

    Raises:
        NotPermitted: ``/proc/sys`` is mounted read-only, or the process lacks CAP_NET_ADMIN.
        KernelRejected: there is no such setting (the hint says what would bring it), or the kernel
            refuses the value.
    """
    if read(name, root) == " ".join(value.split()):
        return False
    try:
        # Never created: a plain open of /proc would say EACCES where it means "no such setting".
        with _path(name, root).open("r+", encoding="utf-8") as file:
            file.write(value)
    except OSError as error:
        raise _translated(name, "set", error, value) from None
    return True


def _translated(name: str, verb: str, error: OSError, value: str = "") -> NetloomError:
    subject = f"sysctl net.{name.replace('/', '.')}"
    number = error.errno or errno.EIO
    if number == errno.EROFS:
        return NotPermitted(
            f"may not {verb} {subject}: /proc/sys is read-only here",
            hint="run on the host itself, or in a privileged container",
        )
    if number in (errno.EACCES, errno.EPERM):
        return NotPermitted(f"may not {verb} {subject}", hint="run as root, or with CAP_NET_ADMIN")
    hint = _absent_hint(name) if number in (errno.ENOENT, errno.ENOTDIR) else ""
    target = f"{subject} to {value!r}" if value else subject
    return KernelRejected(verb, target, number, hint=hint)


def _absent_hint(name: str) -> str:
    """Say in a sentence why a setting is not there and what would bring it."""
    parts = name.split("/")
    if parts[0] in _MODULES:
        return f"the kernel module is not loaded: modprobe {_MODULES[parts[0]]}"
    if parts[0] == "ipv6" and not (ROOT / "ipv6").exists():
        return "this kernel runs without IPv6: boot without ipv6.disable=1, or use IPv4 pools only"
    if len(parts) > 3 and parts[1] in ("conf", "neigh"):
        return f"there is no device {parts[2]}"
    return "this kernel has no such setting"


def _path(name: str, root: Path) -> Path:
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidConfig(f"{name!r} is not a sysctl below net", field="sysctl", value=name)
    return root / name
