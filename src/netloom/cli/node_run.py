"""``netloom node run``: start this host's agent in the background, by calicoctl's options.

The options' words, and the variables of calico-node (``IP``, ``NODENAME``, ``AS``,
``CALICO_IPV4POOL_CIDR``, …), say how. What they say of the cluster (the AS number, the default
pools) is written to the datastore first, as resources; then the agent is started, unless it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import click

from netloom.cli.client import Client
from netloom.cli.node_cluster import Options, tell_cluster
from netloom.cli.options import with_settings
from netloom.cli.settings import Settings, load_settings
from netloom.model.errors import NetloomError, NotPermitted, Unavailable
from netloom.model.resource import parse_node_name

#: A machine with much to do takes its time to start Python; an agent that ends is told at once.
PATIENCE_S = 60.0
READY_PATIENCE_S = 20.0
_LOOK_S = 0.05
_ANSWER_S = 10.0
_BACKENDS = ("bird", "vxlan", "none")


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
    if dryrun:
        for key, value in variables.items():
            click.echo(f"{key}={value}")
        click.echo(f"{sys.executable} -m netloom agent")
        return
    said = load_settings(
        {n: getattr(settings, n) for n in settings.origins}, {**os.environ, **variables}
    )
    tell_cluster(said, options, variables["NETLOOM_HOST_NAME"])
    if init_system:
        os.execve(  # noqa: S606 - becoming the agent is what the flag asks for
            sys.executable, [sys.executable, "-m", "netloom", "agent"], {**os.environ, **variables}
        )
    _start(said, variables, Path(log_dir))


def _variables(options: Options, settings: Settings) -> dict[str, str]:
    """Return the settings that the agent gets by its environment. Raises InvalidConfig."""
    if options.name:
        parse_node_name(options.name, "--name")
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


def _start(settings: Settings, variables: Mapping[str, str], log_dir: Path) -> None:
    """Start the agent in a session of its own; wait until it answers, and a while for more."""
    client = Client(settings.socket, _ANSWER_S)
    if client.listened():  # one that has no time to answer now is no reason for a second one
        click.echo("Calico node is running already")
        return
    with _log(log_dir) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "netloom", "agent"],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end, answered = time.monotonic() + PATIENCE_S, False
    while time.monotonic() < end:
        ready = _ready(client)
        if ready:
            break
        if ready is not None and not answered:  # what keeps it is told by its status
            answered, end = True, time.monotonic() + READY_PATIENCE_S
        if process.poll() is not None:
            raise Unavailable(
                f"the agent ended at once with exit code {process.returncode}: "
                f"{_last_line(log_dir / 'agent.log')}",
                hint=f"see {log_dir / 'agent.log'}",
            )
        time.sleep(_LOOK_S)
    else:
        if not answered:
            raise Unavailable(
                f"the agent does not answer after {PATIENCE_S:g} s; it goes on starting",
                hint=f"see {log_dir / 'agent.log'} and `netloom status`",
            )
    click.echo("Calico node started successfully")


def _log(log_dir: Path) -> BinaryIO:
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        return (log_dir / "agent.log").open("ab")
    except OSError as error:
        raise NotPermitted(
            f"{log_dir}: {error.strerror}", hint="name another folder with --log-dir"
        ) from None


def _ready(client: Client) -> bool | None:
    """Tell whether the agent is ready, and so `get nodes` shows its host; None: no answer."""
    try:
        return bool(client.get("/v1/status")["ready"])
    except NetloomError:
        return None


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""
