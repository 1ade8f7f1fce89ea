"""What ``subnet.env`` means for Docker's daemon: command line options and daemon.json keys.

Docker masquerades what leaves its bridge, also towards containers on other hosts, which would see
the host's address then. So where we masquerade what leaves the network, Docker must not.
"""

from __future__ import annotations

import re
from typing import Any

from netloom.model.errors import InvalidConfig
from netloom.store.flannel.subnet_env import SubnetEnv

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def option_lines(
    env: SubnetEnv, *, single: bool, combined: bool, key: str = "DOCKER_OPTS", masq: bool = True
) -> str:
    """Return the lines that flannel's mk-docker-opts writes; neither form asked for means both.

    ``masq`` False leaves ``--ip-masq`` out. Raises InvalidConfig for a ``key`` that no shell takes.
    """
    if not _KEY.fullmatch(key):
        raise InvalidConfig(
            f"-k: {key!r} is not the name of a variable",
            field="-k",
            value=key,
            hint="letters, digits and '_', e.g. DOCKER_NETWORK_OPTIONS",
        )
    options = {"BIP": f"--bip={env.subnets[0]}"}
    if masq:
        options["IPMASQ"] = f"--ip-masq={str(not env.ipmasq).lower()}"
    options["MTU"] = f"--mtu={env.mtu_bytes}"
    lines = []
    if single or not combined:
        lines += [f'DOCKER_OPT_{name}="{option}"' for name, option in options.items()]
    if combined or not single:
        lines.append(f'{key}="{"".join(f" {option}" for option in options.values())}"')
    return "\n".join(lines) + "\n"


def daemon_keys(env: SubnetEnv, present: dict[str, Any], *, masq: bool = True) -> dict[str, Any]:
    """Return the keys of daemon.json that are to be set; ``present`` is what it holds.

    ``ip-masq`` is named only where Docker's default (true) would be wrong, or is there already.
    """
    wanted: dict[str, Any] = {"bip": str(env.subnets[0]), "mtu": env.mtu_bytes}
    if len(env.subnets) > 1:
        wanted |= {"ipv6": True, "fixed-cidr-v6": str(env.subnets[1].network)}
    if masq and (env.ipmasq or "ip-masq" in present):
        wanted["ip-masq"] = not env.ipmasq
    return wanted
