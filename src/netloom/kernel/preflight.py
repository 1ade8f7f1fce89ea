"""What is missing on this machine for the agent to do its work, before it tries.

Features of the kernel are not looked up but tried, in a network namespace that ends with the try:
so it does not matter whether a module is built in, loaded, or loaded by the try itself.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

from netloom.core import firewall
from netloom.kernel import capabilities, commands, devices, nft, refusals, wire
from netloom.kernel.namespaces import in_new_namespace
from netloom.model.addr import Family
from netloom.model.errors import NetloomError, NotPermitted, Unavailable
from netloom.model.network import Network
from netloom.model.view import Problem
from netloom.model.wording import option_of

#: The capabilities that we need, and what for.
CAPABILITIES = {
    "CAP_NET_ADMIN": (capabilities.NET_ADMIN, "change links, routes and the firewall"),
    "CAP_SYS_ADMIN": (capabilities.SYS_ADMIN, "enter the network namespaces of containers"),
}
#: Kinds of links that the usual networks are made of.
USUAL_KINDS = ("bridge", "veth", "vxlan")
IPV4: tuple[Family, ...] = (4,)
_PROC_SYS_NET = Path("/proc/sys/net")
_EXAMPLE = {4: "10.0.0.0/8", 6: "fd00::/8"}


def missing(
    kinds: Collection[str] = USUAL_KINDS, families: Collection[Family] = IPV4
) -> list[Problem]:
    """Return all that is missing to make links of ``kinds`` and a firewall for ``families``.

    Each problem names the thing and its remedy. What only a privileged process can find out is
    left out where the privilege is missing: that is then the problem.
    """
    problems = missing_rights()
    if 6 in families and not (_PROC_SYS_NET / "ipv6").exists():
        problems.append(
            Problem(
                "error",
                "kernel IPv6",
                "this kernel runs without IPv6",
                "boot without ipv6.disable=1, or use IPv4 pools only",
            )
        )
    if problems:
        return problems
    try:
        return in_new_namespace(lambda: [*_links(kinds), *_firewall(families)])
    except NetloomError as error:  # a seccomp filter may forbid what the capabilities allow
        return [_from(error, "network namespaces")]


def missing_rights() -> list[Problem]:
    """Return what is missing whatever the networks: capabilities, a writable /proc/sys, nft.

    A matter of less than a millisecond: it tries nothing.
    """
    problems = _rights()
    if not commands.find("nft"):
        problems.append(_from(commands.missing("nft"), "program nft"))
    return problems


def require(problems: Sequence[Problem]) -> None:
    """Raise if anything is missing: NotPermitted for a right, Unavailable for a part.

    The message tells all of it.
    """
    if not problems:
        return
    text = "; ".join(problem.text for problem in problems)
    hint = "; ".join(dict.fromkeys(problem.remedy for problem in problems if problem.remedy))
    is_right = problems[0].subject.startswith(("capability", "/proc"))
    raise (NotPermitted if is_right else Unavailable)(text, hint=hint)


def _rights() -> list[Problem]:
    lacking = [name for name, (number, _) in CAPABILITIES.items() if not capabilities.holds(number)]
    # Root of a user namespace may hold it, and not own this network.
    if "CAP_NET_ADMIN" not in lacking and _ask_for_link("") == errno.EPERM:
        lacking.insert(0, "CAP_NET_ADMIN")
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    remedy = (
        f"run as root on the host, or give the process {' and '.join(lacking)} "
        f"(systemd: AmbientCapabilities={' '.join(lacking)}; "
        f"docker: {' '.join(f'--cap-add {name[4:]}' for name in lacking)})"
    )
    problems = [
        Problem(
            "error",
            f"capability {name}",
            f"{who} lacks {name}: the agent may not {CAPABILITIES[name][1]}",
            remedy,
        )
        for name in lacking
    ]
    if os.statvfs(_PROC_SYS_NET).f_flag & os.ST_RDONLY:
        problems.append(
            Problem(
                "error",
                "/proc/sys",
                "/proc/sys is read-only here: forwarding cannot be switched on",
                "run on the host itself, or in a privileged container (docker: --privileged)",
            )
        )
    return problems


def _links(kinds: Collection[str]) -> list[Problem]:
    """Ask for a link of each kind by nothing but its kind; only an unknown one is "not supported".

    Those that need more settings are refused for these, which is answer enough.
    """
    return [
        _without_module(f"links of type {kind}", kind)
        for kind in sorted(kinds)
        if _ask_for_link(kind) == errno.EOPNOTSUPP
    ]


def _ask_for_link(kind: str) -> int:
    """Ask for a link of ``kind``, "" for a change of one that is not there; return the errno."""
    info = wire.nest(wire.IFLA_LINKINFO, wire.text(wire.IFLA_INFO_KIND, kind)) if kind else b""
    request = wire.message(
        wire.RTM_NEWLINK,
        wire.NLM_F_CREATE | wire.NLM_F_EXCL if kind else 0,
        wire.LINK_HEADER.pack(0, 0, 0, 0, 0),
        wire.text(wire.IFLA_IFNAME, f"try-{kind}"[:15]),
        info,
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.settimeout(10)  # the kernel may load a module meanwhile
        channel.sendto(request, (0, 0))
        answer = channel.recv(8192)
    number: int = -struct.unpack_from("=i", answer, wire.HEADER.size)[0]
    return number


def _firewall(families: Collection[Family]) -> list[Problem]:
    """Let nft and the kernel check a table such as ours, without keeping it."""
    if nft.generation() is None:
        return [_without_module("nftables", "nf_tables")]
    pools = [_EXAMPLE[family] for family in sorted(families)]
    table = firewall.table([Network.parse({"name": "try", "pools": pools})])
    done = commands.run("nft", "--check", "--file", "-", stdin=table.text)
    if done.code == 0:
        return []
    return [
        Problem(
            "error",
            "kernel nftables",
            f"the kernel or nft refuses our firewall: {done.complaint}",
            "nft 1.0 and a kernel with nft_masq, nft_nat and nft_fib_inet are needed",
        )
    ]


def _without_module(what: str, module: str) -> Problem:
    remedy = _get(module) + refusals.INSTEAD.get(module, "")
    return Problem("error", f"kernel module {module}", f"this kernel has no {what}", remedy)


def _get(module: str, modules: Path = Path("/lib/modules")) -> str:
    """Say how to get a kernel module that the kernel did not load by itself."""
    release = os.uname().release
    folder = modules / release
    if not folder.is_dir() and modules.is_dir() and any(modules.iterdir()):
        return f"reboot: the modules of the running kernel {release} have been removed"
    if devices.listed(module, modules):
        return f"modprobe {module}"
    option = option_of(module)
    return f"modprobe {module}, on a kernel with {option}: {release} seems to be built without"


def _from(error: NetloomError, subject: str) -> Problem:
    return Problem("error", subject, str(error), error.hint)
