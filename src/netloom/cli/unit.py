"""The files that ``netloom install`` writes: systemd unit, conflist, a sample of the settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

from netloom.cli.settings import SETTINGS, load_settings

#: What every file of ours holds, so that it is known as ours without any record of it.
UNIT_MARK = "Written by `netloom install`"
CNI_TYPE = "netloom-cni"
CAPABILITIES = ("bandwidth", "ips", "mac", "portMappings")

#: Why each is needed: links and firewall; pings; namespaces of containers, by path and by process;
#: BIRD, which the agent starts, listens at port 179.
_RIGHTS = "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_NET_BIND_SERVICE"

_UNIT = f"""\
# {UNIT_MARK}, which writes it anew: change it with `systemctl edit netloom`.
[Unit]
Description=Netloom agent: joins the containers of many hosts into one network
Wants=network-online.target
After=network-online.target nftables.service firewalld.service
Before=containerd.service crio.service docker.service podman.service kubelet.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={{command}} agent
Restart=always
RestartSec=1
# An agent whose loop is stuck says no longer that it is alive; a new one costs no packet.
WatchdogSec=60
# The data path is the kernel's, and helper processes that carry packets outlive the agent.
KillMode=process
RuntimeDirectory=netloom
RuntimeDirectoryPreserve=yes
StateDirectory=netloom
StateDirectoryMode=0700
UMask=0077
LimitNOFILE=65536
OOMScoreAdjust=-900
CapabilityBoundingSet={_RIGHTS}
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=net
# No Protect…= and no Private…=: each gives the agent mounts of its own, in which /proc/sys is
# read-only and namespaces made by a runtime later are not seen.

[Install]
WantedBy=multi-user.target
"""

_SETTINGS_HEAD = f"""\
# Settings of Netloom on this host. {UNIT_MARK}, once: it is yours from here on.
# Flags and NETLOOM_* variables win over this file. What is commented out shows the default.
"""


def unit(command: Path) -> str:
    """Return the systemd unit that runs ``command agent``."""
    return _UNIT.format(command=_escaped(str(command)))


def conflist(name: str, network: str, socket: str = "") -> str:
    """Return the CNI network list ``name`` that attaches containers to ``network``.

    ``socket`` is the agent's, "" for the usual one. There is no portmap behind our plugin: it
    publishes ports itself.
    """
    plugin: dict[str, object] = {"type": CNI_TYPE, "network": network}
    if socket:
        plugin["agentSocket"] = socket
    plugin["capabilities"] = dict.fromkeys(CAPABILITIES, True)
    document = {"cniVersion": "1.0.0", "name": name, "plugins": [plugin]}
    return json.dumps(document, indent=2) + "\n"


def sample_settings() -> str:
    """Return a settings file in which everything is commented out, with what each setting is."""
    defaults = load_settings(env={}, config_path=os.devnull)
    lines = [_SETTINGS_HEAD]
    for setting in SETTINGS:
        own = setting.name in ("host_id", "host_name")  # each host's own; found when not given
        value = "" if own else getattr(defaults, setting.name)
        lines.append(f"# {setting.help}\n#{setting.key}:{f' {value}' if value != '' else ''}\n")
    return "\n".join(lines)


def _escaped(path: str) -> str:
    """Return a path as systemd's ExecStart= wants it (systemd.service(5), "Command lines")."""
    safe = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{safe}"' if " " in safe else safe
