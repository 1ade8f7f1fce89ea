"""``subnet.env``: what a host's container engine is told of its block, in flannel's lines.

Read by flannel's CNI plugin, by mk-docker-opts and by people's scripts; the order of the lines and
the mode 0644 are flannel's.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netloom.model.addr import IPInterface, IPNetwork
from netloom.model.errors import InvalidConfig, NotPermitted, Unavailable
from netloom.model.fields import whole_number
from netloom.store.whole_file import write_whole

DEFAULT_PATH = Path("/run/flannel/subnet.env")


@dataclass(frozen=True, slots=True)
class SubnetEnv:
    """One host's part. ``subnets`` are the gateway's addresses in the blocks, with their length.

    ``networks`` and ``subnets`` are sorted by family and of one length.
    """

    networks: tuple[IPNetwork, ...]
    subnets: tuple[IPInterface, ...]
    mtu_bytes: int
    ipmasq: bool

    @classmethod
    def of_blocks(
        cls,
        networks: tuple[IPNetwork, ...],
        blocks: tuple[IPNetwork, ...],
        mtu_bytes: int,
        ipmasq: bool,
    ) -> SubnetEnv:
        """Return what tells of ``blocks``: the gateway is each block's second address."""
        gateways = tuple(
            ipaddress.ip_interface((block.network_address + 1, block.prefixlen)) for block in blocks
        )
        return cls(networks, gateways, mtu_bytes, ipmasq)

    @classmethod
    def parse(cls, text: str, where: str = "subnet.env") -> SubnetEnv:
        """Parse the file; lines that are not ours are left alone. Raises InvalidConfig."""
        found: dict[str, str] = {}
        for line in text.splitlines():
            name, separator, value = line.strip().removeprefix("export ").partition("=")
            if separator and not name.startswith("#"):
                found[name.strip()] = value.strip().strip("\"'")
        networks: list[IPNetwork] = []
        subnets: list[IPInterface] = []
        for infix in ("", "IPV6_"):
            name, other = f"FLANNEL_{infix}NETWORK", f"FLANNEL_{infix}SUBNET"
            if infix and not found.get(other):
                continue
            try:
                # several ranges, separated by commas, are what some versions of flannel write
                networks.append(
                    ipaddress.ip_network(found.get(name, "").partition(",")[0], strict=False)
                )
                name = other
                subnets.append(ipaddress.ip_interface(found.get(other, "")))
            except ValueError:
                raise _wrong(where, name, found.get(name)) from None
        mtu = whole_number(found.get("FLANNEL_MTU", ""))
        if mtu is None or mtu < 0:
            raise _wrong(where, "FLANNEL_MTU", found.get("FLANNEL_MTU"))
        masq = found.get("FLANNEL_IPMASQ", "false").lower()
        return cls(tuple(networks), tuple(subnets), mtu, masq in ("true", "1"))

    @classmethod
    def load(cls, path: Path) -> SubnetEnv:
        """Read the file. Raises Unavailable when there is none yet, InvalidConfig, NotPermitted."""
        try:
            return cls.parse(path.read_text(encoding="utf-8", errors="replace"), str(path))
        except FileNotFoundError:
            raise Unavailable(
                f"{path}: no such file",
                hint="the agent writes it once the host has its block; see netloom status",
            ) from None
        except PermissionError:
            raise NotPermitted(f"{path}: may not be read", hint="run it as root") from None
        except OSError as error:
            raise InvalidConfig(f"{path}: {error.strerror}", field=str(path)) from None

    def render(self) -> str:
        """Return the file's text."""
        lines = []
        for network, subnet in zip(self.networks, self.subnets, strict=True):
            infix = "" if network.version == 4 else "IPV6_"
            lines += [f"FLANNEL_{infix}NETWORK={network}", f"FLANNEL_{infix}SUBNET={subnet}"]
        lines += [f"FLANNEL_MTU={self.mtu_bytes}", f"FLANNEL_IPMASQ={str(self.ipmasq).lower()}"]
        return "\n".join(lines) + "\n"


def write_file(path: Path, text: str, mode: int = 0o644) -> bool:
    """Make ``path`` hold ``text`` in one step; False when it holds it already.

    A reader sees the old text or the new one, never a part. Raises NotPermitted, InvalidConfig.
    """
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return False
    write_whole(path, text, mode)
    return True


def _wrong(where: str, name: str, value: str | None) -> InvalidConfig:
    reason = "is missing" if value is None else f"{value!r} is not understood"
    return InvalidConfig(
        f"{where}: {name}: {reason}", field=name, value=value, hint="the agent writes it anew"
    )
