"""``calicoctl``: our verbs under calicoctl's command line, so that its users' fingers know it.

``-c FILE`` and the environment say where the datastore is (``calicoctl_config``); what they leave
open, our own settings say. Resources, addresses and nodes are the verbs of ``netloom``; what
calicoctl has and Netloom has not is answered with the reason.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import NoReturn

import click

from netloom.cli import calicoctl_config
from netloom.cli.main import explain, invoke, leave, netloom
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

USAGE = """\
Usage:
  calicoctl [options] <command> [<args>...]

    create     Create resources from files.
    replace    Replace resources by those in files.
    apply      Make the resources in files true.
    patch      Change a part of a resource.
    delete     Delete resources.
    get        Show resources.
    label      Give labels to a resource.
    validate   Check files of resources on their own.
    convert    Print files of resources, v1's too, as v3 has them.
    ipam       Show, check and release addresses.
    node       Run and look at this host.
    version    Show the version.

Options:
  -h --help                    Show this text; after a command, that command's own.
  -c --config=<config>         The file that says where the datastore is
                               [default: /etc/calico/calicoctl.cfg].
  -l --log-level=<level>       Taken and without effect.
  --allow-version-mismatch     Taken and without effect.

This is Netloom's calicoctl: `netloom --help` shows all it can do."""

_SAME = ("create", "replace", "apply", "patch", "delete", "get", "label", "node")
#: Commands of calicoctl's own form: the module that holds each.
_OWN = {
    "ipam": "calicoctl_ipam",
    "validate": "calicoctl_files",
    "convert": "calicoctl_files",
    "version": "calicoctl_version",
}
#: How hints and examples call what is called so here as well.
_THEIRS = re.compile(rf"\bnetloom (?=(?:{'|'.join(_SAME)})\b)")
_WHY_NOT = {
    "datastore": "Netloom's datastore is not moved from one kind to another",
    "cluster": "see `netloom status` and `netloom node diags` on each host",
    "config": "these settings are resources now: `calicoctl get bgpconfig default -o yaml`",
}
#: Options of calicoctl's that mean nothing here: whether each has a value, and its commands.
_UNUSED = {
    "--context": (True, ("create", "replace", "apply", "patch", "delete", "get", "label")),
    "--poll": (True, ("version",)),
    "--kubeconfig": (True, ("ipam",)),
    "--kernel-config": (True, ("node",)),
    "--node-image": (True, ("node",)),
    "--felix-config": (True, ("node",)),
    "--docker-networking-ifprefix": (True, ("node",)),
    "--disable-docker-networking": (False, ("node",)),
    "--use-docker-networking-container-labels": (False, ("node",)),
}
_VALUED = {"-c": "config", "--config": "config", "-l": "level", "--log-level": "level"}


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run calicoctl's command line and leave with an exit code."""
    leave(lambda: _explained(list(sys.argv[1:] if args is None else args)))


def _explained(args: list[str]) -> int:
    try:
        return run(args, os.environ)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # ours to explain, whatever
        return explain(error, _worded)


def run(
    args: list[str],
    env: Mapping[str, str],
    verbs: Callable[[list[str]], int] | None = None,
) -> int:
    """Run one command and return the exit code. Raises InvalidConfig for what cannot be."""
    options, rest = _parted(args)
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    command = rest[0]
    if command in _WHY_NOT:
        raise InvalidConfig(
            f"calicoctl {command} is not part of Netloom",
            field="command",
            value=command,
            hint=_WHY_NOT[command],
        )
    if command not in (*_SAME, *_OWN):
        raise InvalidConfig(
            f"there is no command {command!r}",
            field="command",
            value=command,
            hint=nearest(command, (*_SAME, *_OWN)),
        )
    place = None if _asks_nobody(rest) else calicoctl_config.find(options.get("config"), env)
    if place is not None:
        os.environ["NETLOOM_DATASTORE"] = place.url
        if place.password:
            os.environ["NETLOOM_ETCD_PASSWORD"] = place.password
    return (verbs or _run)(_without_unused(rest))


def _run(args: list[str]) -> int:
    verb, *rest = args
    if verb in _SAME:
        command = netloom.get_command(click.Context(netloom), verb)
        assert command is not None, "verbs are netloom's"
    else:
        command = getattr(importlib.import_module(f"netloom.cli.{_OWN[verb]}"), verb)
    return invoke(_renamed(command), f"calicoctl {verb}", rest, _worded)


def _worded(text: str) -> str:
    return _THEIRS.sub("calicoctl ", text)


def _renamed(command: click.Command) -> click.Command:
    """Return a command whose help speaks of calicoctl, and those below it."""
    twin = copy(command)
    twin.epilog = _worded(command.epilog or "") or None
    if isinstance(twin, click.Group):
        twin.commands = {name: _renamed(each) for name, each in twin.commands.items()}
    return twin


def _asks_nobody(args: list[str]) -> bool:
    """Tell whether a command does without any datastore, so that nothing has to say where it is."""
    return args[0] in ("validate", "convert") or not {"--client", "-h", "--help"}.isdisjoint(args)


def _without_unused(args: list[str]) -> list[str]:
    """Return a command without the options that mean nothing here; say which they were."""
    kept: list[str] = []
    left = iter(args)
    for arg in left:
        name, sign, _ = arg.partition("=")
        valued, commands = _UNUSED.get(name, (False, ()))
        if args[0] not in commands or (sign and not valued):
            kept.append(arg)
            continue
        if valued and not sign and next(left, None) is None:
            raise InvalidConfig(f"{name}: it needs a value", field=name, hint=f"{name} VALUE")
        print(f"note: {name} has no effect here", file=sys.stderr)
    return kept


def _parted(args: list[str]) -> tuple[dict[str, str], list[str]]:
    """Part the options of all commands, wherever they stand, from the rest."""
    options: dict[str, str] = {}
    rest: list[str] = []
    left = iter(args)
    for arg in left:
        name, sign, value = arg.partition("=")
        if name in _VALUED:
            given = value if sign else next(left, None)
            if given is None:
                raise InvalidConfig(f"{name}: it needs a value", field=name, hint=f"{name} VALUE")
            options[_VALUED[name]] = given
        elif arg != "--allow-version-mismatch":
            rest.append(arg)
    return options, rest
