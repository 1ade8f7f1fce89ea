"""``netloom docker-opts``: tell Docker's daemon of this host's block, as flannel's script does."""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path

import click

from netloom.cli.render import bold
from netloom.model.errors import Conflict, Unavailable
from netloom.store.flannel.subnet_env import DEFAULT_PATH, SubnetEnv, write_file

DOCKER_ENV = Path("/run/docker_opts.env")
DAEMON_JSON = "/etc/docker/daemon.json"
_PATH = click.Path(path_type=Path)


@click.command(
    "docker-opts",
    epilog="""\b
Examples:
  netloom docker-opts -c -d -                   # DOCKER_OPTS=" --bip=… --ip-masq=… --mtu=…"
  netloom docker-opts -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker
  netloom docker-opts --write                   # bip and mtu into /etc/docker/daemon.json
""",
)
@click.option(
    "-f", "env", type=_PATH, default=DEFAULT_PATH, envvar="NETLOOM_SUBNET_FILE",
    show_default=True, show_envvar=True, help="The host's subnet.env.",
)  # fmt: skip
@click.option(
    "-d", "target", type=_PATH, default=DOCKER_ENV, show_default=True,
    help="The file to write; '-' is the output.",
)  # fmt: skip
@click.option("-i", "single", is_flag=True, help="Each option as a variable: DOCKER_OPT_MTU.")
@click.option("-c", "combined", is_flag=True, help="All options in one variable; without -i both.")
@click.option("-m", "no_masq", is_flag=True, help="Leave --ip-masq out.")
@click.option(
    "-k", "key", default="DOCKER_OPTS", show_default=True, help="The name of the one variable."
)
@click.option("--write", "to_daemon", is_flag=True, help="Set the keys in daemon.json instead.")
@click.option(
    "--daemon-json", type=_PATH, default=DAEMON_JSON, envvar="NETLOOM_DAEMON_JSON",
    show_default=True, show_envvar=True, help="Where that is.",
)  # fmt: skip
def docker_opts(
    *,
    env: Path,
    target: Path,
    single: bool,
    combined: bool,
    no_masq: bool,
    key: str,
    to_daemon: bool,
    daemon_json: Path,
) -> None:
    """Write Docker's options for this host's block, from subnet.env.

    With --write, bip and mtu (and ip-masq, where Docker must not masquerade) are set in daemon.json
    and every other key stays as it is. Docker takes them when it is restarted.
    """
    from netloom.drivers.docker.options import option_lines

    found = SubnetEnv.load(env)
    _refuse_routed_away(found)
    if to_daemon:
        _merge(found, daemon_json, masq=not no_masq)
        return
    text = option_lines(found, single=single, combined=combined, key=key, masq=not no_masq)
    if str(target) == "-":
        print(text, end="")
    else:
        write_file(target, text)


def _merge(found: SubnetEnv, path: Path, *, masq: bool) -> None:
    from netloom.drivers.docker import daemon_json
    from netloom.drivers.docker.options import daemon_keys

    before = daemon_json.read(path)
    wanted = daemon_keys(found, dict(before.keys), masq=masq)
    after = before.with_keys(wanted)
    told = ", ".join(f"{key} {json.dumps(value)}" for key, value in wanted.items())
    if path.exists() and after == before.text:
        print(f"{bold(str(path))} says so already: {told}")
        return
    daemon_json.write(path, after)
    print(f"{bold(str(path))} says now: {told}")
    print("restart Docker to use it: systemctl restart docker", file=sys.stderr)


def _refuse_routed_away(found: SubnetEnv) -> None:
    """Refuse a block that this host reaches through a gateway: it is another host's by now."""
    from netloom.kernel import commands

    for subnet in found.subnets:
        family = f"-{subnet.version}"
        try:
            done = commands.run("ip", "-j", family, "route", "show", "exact", str(subnet.network))
            routes = json.loads(done.output or "[]") if done.code == 0 else []
        except (Unavailable, ValueError):
            return  # nothing can be said about routes here
        for route in routes:
            if "gateway" in route and ipaddress.ip_address(route["gateway"]) not in subnet.network:
                raise Conflict(
                    f"{subnet.network} leads to {route['gateway']} by a route of this host: it is "
                    "not this host's block any more",
                    hint="see netloom status; the agent writes subnet.env anew once it has a block",
                )
