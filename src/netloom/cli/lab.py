"""``netloom lab``: several hosts on this machine, to learn and to try; ``lab/`` does the work."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from netloom.cli.lab_shown import say, table, tell_problems
from netloom.cli.options import example, output_option
from netloom.cli.render import Table, emit

if TYPE_CHECKING:
    from types import FrameType

    from netloom.lab.lab import Lab

DEFAULT_LAB = "lab"
NOT_WELL = 6

name_option = click.option(
    "--name",
    "--lab",  # as `netloom ping` calls it
    "name",
    metavar="LAB",
    default=DEFAULT_LAB,
    envvar="NETLOOM_LAB",
    show_default=True,
    help="The lab's name; two labs with different names do not disturb each other.",
)


@click.group(
    epilog=example(
        "netloom lab up --hosts 3 --preset flannel",
        "netloom lab run h1 a",
        "netloom lab run h2 b",
        "netloom lab exec h1/a -- ping -c3 10.244.1.2",
        "netloom lab down",
    )
)
def lab() -> None:
    """Lay out several hosts on this machine, each with a real agent."""


@lab.command(
    epilog=example(
        "netloom lab up --hosts 3 --preset flannel",
        "netloom lab up --name try --backend host-gw --attach routed --pool 10.99.0.0/16",
        "netloom lab up scene4",
    )
)
@click.argument("file", required=False)
@name_option
@click.option("--hosts", type=int, help="Make this many hosts on one segment.  [default: 3]")
@click.option("--preset", metavar="NAME", help="Begin with a preset: flannel or calico.")
@click.option("--backend", metavar="TYPE", help="How hosts reach each other's blocks.")
@click.option("--attach", metavar="TYPE", help="How containers reach their host.")
@click.option("--pool", "pools", metavar="CIDR", multiple=True, help="Addresses; repeatable.")
@click.option("--block-size", type=int, metavar="LENGTH", help="Prefix length of a block.")
@click.option("--bare", is_flag=True, help="Start no agents: to do their work by hand.")
@click.option(
    "--store",
    type=click.Choice(["sqlite", "etcd"]),
    default="sqlite",
    show_default=True,
    help="What holds the cluster's state.",
)
@click.option(
    "--members", type=click.IntRange(1, 9), help="Start this many members of etcd.  [default: 1]"
)
def up(
    file: str | None,
    *,
    name: str,
    hosts: int | None,
    bare: bool,
    store: str,
    members: int | None,
    **choices: Any,
) -> None:
    """Bring a lab up: hosts h1, h2, … on one segment, or the topology of FILE.

    FILE is a topology file, or the name of a shipped one: scene1, scene2, scene2-router, scene3,
    scene4, scene5, dualstack, rack. Exit code 6 when the lab stands and something does not work on
    a host.
    """
    from netloom.lab.documents import default_document, load_document
    from netloom.lab.lab import Lab

    if file and (hosts is not None or any(choices.values())):
        raise click.UsageError("FILE already says what the lab has: leave out --hosts and networks")
    if members and store != "etcd":
        raise click.UsageError("--members is about etcd: add --store etcd")
    if file:
        document = load_document(file)
    else:
        document = default_document(3 if hosts is None else hosts, network_of(**choices))
    began = time.monotonic()
    with terminable():
        made = Lab.up(
            document,
            name=name,
            run_agents=not bare,
            etcd_members=(members or 1) if store == "etcd" else 0,
            progress=say,
        )
    say(f"lab {name} is up after {time.monotonic() - began:.1f} s")
    click.echo(table([made.describe()]))
    first = made.hosts[0].name
    flag = "" if name == DEFAULT_LAB else f" --name {name}"
    say(f"next: netloom lab run{flag} {first} a, netloom lab exec{flag} {first} -- netloom status")
    if not bare and tell_problems(made):
        sys.exit(NOT_WELL)


@lab.command(
    epilog=example(
        "netloom lab run h1 web -p 8080:80 -- python3 -m http.server 80",
        "netloom lab run h2 client --ip 10.244.1.77",
    )
)
@click.argument("host")
@click.argument("container", metavar="NAME")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD…]")
@name_option
@click.option(
    "--network", "networks", multiple=True, help="Attach to this network; repeatable: eth0, eth1, …"
)
@click.option("--ip", "ips", metavar="ADDRESS", multiple=True, help="Ask for this address.")
@click.option(
    "-p", "--publish", "ports", metavar="HOSTPORT:PORT", multiple=True, help="Publish a port."
)
@output_option
def run(
    host: str,
    container: str,
    command: tuple[str, ...],
    *,
    name: str,
    networks: tuple[str, ...],
    ips: tuple[str, ...],
    ports: tuple[str, ...],
    output: str,
) -> None:
    """Make container NAME on HOST, attached through the CNI executable as a runtime would.

    CMD runs inside, in the background, its output in a file; the container stays when it ends.
    """
    made = (
        _open(name)
        .host(host)
        .run(container, networks=networks, ips=ips, ports=ports, command=command)
    )
    document = {
        "host": host,
        "name": container,
        "namespace": made.namespace,
        "addresses": made.known.addresses,
        "pid": made.known.process.pid if made.known.process else None,
    }
    emit(output, document, lambda: f"{made.name}  {', '.join(made.known.addresses)}")


@lab.command(epilog=example("netloom lab rm h1 web"))
@click.argument("host")
@click.argument("container", metavar="NAME")
@name_option
def rm(host: str, container: str, name: str) -> None:
    """Detach and remove container NAME of HOST."""
    _open(name).host(host).remove(container)


@lab.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog=example(
        "netloom lab exec h1 -- netloom status",
        "netloom lab exec h1 -- ip route",
        "netloom lab exec h1/a -- ping -c1 10.244.1.2",
    ),
)
@click.argument("target", metavar="HOST[/NAME]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
@name_option
def exec_(target: str, command: tuple[str, ...], name: str) -> None:
    """Run CMD on a host or in a container; streams and exit code are CMD's own.

    On a host, `netloom` itself speaks to that host's agent.
    """
    import shutil

    from netloom.model.errors import InvalidConfig

    place = _open(name).place(target)
    if not shutil.which(command[0], path=place.environment["PATH"]):
        raise InvalidConfig(
            f"the command {command[0]!r} is not installed", field="CMD", value=command[0]
        )
    argv = place.command(command)
    sys.stdout.flush()
    os.execvpe(argv[0], argv, dict(place.environment))  # noqa: S606 - we become the command


@lab.command(
    epilog=example(
        "netloom lab docker h1",
        "netloom lab exec h1 -- docker run --rm busybox ip address",
    )
)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@name_option
def docker(hosts: tuple[str, ...], name: str) -> None:
    """Start HOST's own Docker engine, or start it anew: systemctl restart docker.

    It sees HOST's network alone, ends with the lab, and has an image, busybox. On HOST, `docker`
    speaks to it and `netloom docker-opts --write` writes its daemon.json.
    """
    made = _open(name)
    for host in [made.host(each) for each in hosts]:
        host.start_docker()
        say(f"Docker's engine of {host.name} serves; its settings: {host.home.daemon_json}")


@lab.command("list", epilog=example("netloom lab list", "netloom lab list -o json"))
@click.option(
    "--name", "--lab", "name", metavar="LAB", default=None, help="Only this lab.  [default: all]"
)
@output_option
def list_(name: str | None, output: str) -> None:
    """Show labs, their hosts and containers, with namespaces, addresses and process ids."""
    from netloom.lab import record
    from netloom.lab.lab import require_rights

    require_rights()
    names = [name] if name else record.names()
    labs = [_open(each).describe() for each in names]
    emit(output, {"labs": labs}, lambda: table(labs) if labs else "no labs")


@lab.command(
    epilog=example(
        "netloom lab fault h2 cut          pull h2's cable",
        "netloom lab fault h2 heal",
        "netloom lab fault h1 kill-agent   kill -9; traffic goes on",
        "netloom lab fault store stop-store",
    )
)
@click.argument("target", metavar="HOST|HOST:CARD|SEGMENT|store", required=False)
@click.argument("fault_name", metavar="FAULT", required=False)
@name_option
def fault(target: str | None, fault_name: str | None, name: str) -> None:
    """Break something on purpose, or mend it. Without arguments: the list of faults."""
    from netloom.lab.faults import FAULTS

    if target is None or fault_name is None:
        known = Table(["FAULT", "OF", "MEANING"])
        for each, about in FAULTS.items():
            known.add(each, about.target, about.meaning)
        click.echo(known.render())
        if target is not None:
            raise click.UsageError(f"which fault shall {target} have?")
        return
    if remark := _open(name).fault(target, fault_name):
        say(remark)


@lab.command(epilog=example("netloom lab down", "netloom lab down --all"))
@name_option
@click.option("--all", "every", is_flag=True, help="Take every lab down.")
def down(name: str, every: bool) -> None:
    """Take a lab down; nothing of it is left, whatever state it was in."""
    from netloom.lab import record, teardown
    from netloom.lab.lab import require_rights
    from netloom.lab.names import parse_lab_name

    require_rights()
    if every:
        record.remove_drafts()
        for each in record.names():
            teardown.down(each)
            say(f"lab {each} is gone")
        return
    if teardown.down(parse_lab_name(name, "--name")):
        say(f"lab {name} is gone")
    else:
        say(f"there was no lab {name}")


def network_of(
    *,
    preset: str | None = None,
    backend: str | None = None,
    attach: str | None = None,
    pools: tuple[str, ...] = (),
    block_size: int | None = None,
) -> Mapping[str, Any]:
    """Return the definition of the network ``default`` from the flags."""
    from netloom.core import definition
    from netloom.lab.documents import DEFAULT_NETWORK

    base = definition.preset(preset) if preset else dict(DEFAULT_NETWORK)
    base["name"] = "default"
    if backend:
        base["backend"] = backend
    if attach:
        base["attachment"] = attach
    if pools:
        base["pools"] = [{"cidr": cidr} for cidr in pools]
    if block_size is not None:
        base["pools"] = [{**pool, "blockSize": block_size} for pool in base["pools"]]
    return base


def _open(name: str) -> Lab:
    from netloom.lab.lab import Lab

    return Lab.open(name)


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into what Ctrl-C is, so that a lab is taken down on the way."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
