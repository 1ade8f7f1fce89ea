"""``netloom node run``: start this host's agent in the background, by calicoctl's options.

The options' words, and the variables of calico-node (``IP``, ``NODENAME``, ``AS``,
``CALICO_IPV4POOL_CIDR``, …), say how. What they say of the cluster (the AS number, the default
pools) is written to the datastore first, as resources; then the agent is started, unless it runs.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from netloom.cli.client import Client
from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.options import with_settings
from netloom.cli.resources import files
from netloom.cli.resources.editor import Editor
from netloom.cli.settings import Settings, load_settings
from netloom.core.resources.table import KINDS
from netloom.kernel.rtnetlink import RtKernel
from netloom.model.addr import IPNetwork
from netloom.model.errors import InvalidConfig, NetloomError, Unavailable
from netloom.model.kernel import Address
from netloom.model.resource import API_VERSION

PATIENCE_S = 10.0
_LOOK_S = 0.05
_BACKENDS = ("bird", "vxlan", "none")
#: What calico-node takes as its default pool: the first that is free.
_DEFAULT_RANGES = ("192.168.0.0/16", *(f"172.{second}.0.0/16" for second in range(16, 32)))
_MODES = {
    "": "Never", "off": "Never", "never": "Never", "always": "Always",
    "crosssubnet": "CrossSubnet", "cross-subnet": "CrossSubnet",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What was asked for, by flag or variable."""

    addresses: Mapping[int, str]
    methods: Mapping[int, str]
    as_number: str
    name: str
    backend: str
    no_default_ippools: bool
    log_dir: str

    def interface(self) -> str:
        """Return what the setting ``interface`` has to be; "" to leave it. Raises InvalidConfig."""
        parts = []
        for family in (4, 6):
            address, method = self.addresses[family], self.methods[family]
            if address == "none":
                parts.append(f"{family}:none")
            elif address in ("", "autodetect"):
                parts += [f"{family}:{method}"] if method else []
            else:
                parts.append(f"{family}:interface={_address(address, family)}")
        return ";".join(parts)


@click.command(epilog="Example: netloom node run --ip-autodetection-method=can-reach=192.168.30.1")
@click.option("--ip", default="", metavar="IP", envvar="IP", help="Address, autodetect or none.")
@click.option("--ip6", default="", metavar="IP6", envvar="IP6", help="The same for IPv6.")
@click.option(
    "--ip-autodetection-method",
    "method",
    default="",
    metavar="METHOD",
    envvar="IP_AUTODETECTION_METHOD",
    help="How the IPv4 address is found.",
)
@click.option(
    "--ip6-autodetection-method",
    "method6",
    default="",
    metavar="METHOD",
    envvar="IP6_AUTODETECTION_METHOD",
    help="How the IPv6 address is found.",
)
@click.option("--as", "as_number", default="", metavar="AS", envvar="AS", help="Own AS number.")
@click.option("--name", default="", metavar="NAME", envvar="NODENAME", help="This host's name.")
@click.option(
    "--backend",
    default="bird",
    envvar="CALICO_NETWORKING_BACKEND",
    show_default=True,
    type=click.Choice(_BACKENDS),
    help="bird: routes by BGP; vxlan; none.",
)
@click.option(
    "--no-default-ippools",
    is_flag=True,
    envvar="NO_DEFAULT_POOLS",
    help="Make no pool where there is none.",
)
@click.option(
    "--log-dir",
    default="/var/log/netloom",
    metavar="DIR",
    show_default=True,
    help="Where the agent's log goes.",
)
@click.option("--dryrun", is_flag=True, help="Show what would be done.")
@click.option("--init-system", is_flag=True, help="Stay in the foreground, for a unit.")
@with_settings()
def run(
    *,
    ip: str, ip6: str, method: str, method6: str, as_number: str, name: str, backend: str,
    no_default_ippools: bool, log_dir: str, dryrun: bool, init_system: bool, settings: Settings,
) -> None:  # fmt: skip
    """Start this host's agent, and wait until it serves.

    Where there is no pool yet, a default one is made, as calico-node does.
    """
    options = Options(
        {4: ip, 6: ip6}, {4: method, 6: method6}, as_number, name, backend,
        no_default_ippools, log_dir,
    )  # fmt: skip
    variables = _variables(options, settings)
    documents = _documents(options, variables)
    if dryrun:
        for key, value in variables.items():
            click.echo(f"{key}={value}")
        click.echo(f"{sys.executable} -m netloom agent")
        return
    said = load_settings(
        {n: getattr(settings, n) for n in settings.origins}, {**os.environ, **variables}
    )
    with opened(said, create=True) as store:
        _write(store, documents, options)
    if init_system:
        os.execve(  # noqa: S606 - becoming the agent is what the flag asks for
            sys.executable, [sys.executable, "-m", "netloom", "agent"], {**os.environ, **variables}
        )
    _start(said, variables, Path(log_dir))


def _variables(options: Options, settings: Settings) -> dict[str, str]:
    """Return the settings that the agent gets by its environment."""
    variables = {
        "NETLOOM_DATASTORE": settings.datastore,
        "NETLOOM_STATE_DIR": str(settings.state_dir),
        "NETLOOM_RUN_DIR": str(settings.run_dir),
        "NETLOOM_SOCKET": str(settings.socket),
        "NETLOOM_HOST_NAME": options.name or settings.host_name,
    }
    if interface := options.interface():
        variables["NETLOOM_INTERFACE"] = interface
        load_settings({}, variables)  # refuses what cannot choose, before anything is written
    return variables


def _documents(options: Options, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if options.as_number:
        name = variables["NETLOOM_HOST_NAME"]
        found.append(_document("Node", name, {"bgp": {"asNumber": options.as_number}}))
    return found


def _write(store: ClusterStore, documents: list[dict[str, Any]], options: Options) -> None:
    editor = Editor(store)
    for data in documents:
        editor.apply(files.document(data, "", {}))
    if not store.cluster.networks and not options.no_default_ippools:
        for data in _default_pools(store, options, os.environ):
            editor.create(files.document(data, "", {}))
            click.echo(f"Creating default pool {data['spec']['cidr']}")
    editor.commit()


def _default_pools(
    store: ClusterStore, options: Options, env: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return calico-node's pools: IPv4 always, IPv6 where a variable names its range."""
    hosts = store.cluster.hosts.values()
    taken = [segment for host in hosts for segment in host.segments] + _own_segments()
    free = [
        text for text in _DEFAULT_RANGES
        if not any(
            each.version == 4 and each.overlaps(ipaddress.ip_network(text)) for each in taken
        )
    ]  # fmt: skip
    pools = []
    for family, cidr in (
        (4, env.get("CALICO_IPV4POOL_CIDR") or free[0]),
        (6, env.get("CALICO_IPV6POOL_CIDR", "")),
    ):
        if not cidr:
            continue
        prefix = f"CALICO_IPV{family}POOL_"
        vxlan = _mode(env, prefix + "VXLAN")
        spec: dict[str, Any] = {
            "cidr": cidr,
            "ipipMode": _mode(env, prefix + "IPIP"),
            "vxlanMode": "Always" if options.backend == "vxlan" and vxlan == "Never" else vxlan,
            "natOutgoing": env.get(prefix + "NAT_OUTGOING", "true" if family == 4 else "false"),
            "disableBGPExport": env.get(prefix + "DISABLE_BGP_EXPORT", "false"),
        }
        if size := env.get(prefix + "BLOCK_SIZE"):
            spec["blockSize"] = size
        if selector := env.get(prefix + "NODE_SELECTOR"):
            spec["nodeSelector"] = selector
        pools.append(_document("IPPool", f"default-ipv{family}-ippool", spec))
    return pools


def _own_segments() -> list[IPNetwork]:
    """Return the networks that this host's own cards are on."""
    kernel = RtKernel()
    try:
        found = kernel.read(frozenset({"address"}))
    finally:
        kernel.close()
    return [each.interface.network for each in found if isinstance(each, Address)]


def _mode(env: Mapping[str, str], name: str) -> str:
    said = env.get(name, "")
    if said.lower() not in _MODES:
        raise InvalidConfig(
            f"{name}: {said!r} is no mode",
            field=name,
            value=said,
            hint="use Always, CrossSubnet or Never",
        )
    return _MODES[said.lower()]


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    assert kind in KINDS
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _address(text: str, family: int) -> str:
    """Return an address without its length. Raises InvalidConfig."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or interface.version != family:
        flag = "--ip" if family == 4 else "--ip6"
        raise InvalidConfig(
            f"{flag}: {text!r} is not an IPv{family} address",
            field=flag,
            value=text,
            hint="give an address of this host, autodetect, or none",
        )
    return str(interface.ip)


def _start(settings: Settings, variables: Mapping[str, str], log_dir: Path) -> None:
    """Start the agent in a session of its own and wait until it answers."""
    client = Client(settings.socket, 2.0)
    if _answers(client):
        click.echo("Calico node is running already")
        return
    log_dir.mkdir(parents=True, exist_ok=True)
    with (log_dir / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "netloom", "agent"],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if _answers(client):
            click.echo("Calico node started successfully")
            return
        if process.poll() is not None:
            raise Unavailable(
                f"the agent ended at once with exit code {process.returncode}: "
                f"{_last_line(log_dir / 'agent.log')}",
                hint=f"see {log_dir / 'agent.log'}",
            )
        time.sleep(_LOOK_S)
    raise Unavailable(
        f"the agent does not answer after {PATIENCE_S:g} s; it goes on starting",
        hint=f"see {log_dir / 'agent.log'} and `netloom status`",
    )


def _answers(client: Client) -> bool:
    try:
        client.get("/v1/status")
    except NetloomError:
        return False
    return True


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""
