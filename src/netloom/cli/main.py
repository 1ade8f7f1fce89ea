"""``netloom``: the table of verbs, and the one place where errors become messages and exit codes.

A verb's module is imported when the verb is used, so that ``netloom --help`` and quick verbs never
pay for the heavy ones. The module holds a click command under the verb's name.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from netloom import __version__
from netloom.cli.render import paint, shown
from netloom.model.errors import Bug, NetloomError
from netloom.model.fields import nearest

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE
WRONG_USAGE = 2


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: the module that holds it and its line in the overview."""

    module: str
    help: str


VERBS: dict[str, Verb] = {
    "agent": Verb("agent", "Run the agent of this host in the foreground."),
    "install": Verb("install", "Set up this host: systemd unit, CNI executable, conflist."),
    "uninstall": Verb("install", "Undo what install did."),
    "status": Verb("status", "Show on one screen whether this host is well, and why not."),
    "plan": Verb("plan", "Show the kernel changes that would be made now."),
    "network": Verb("network", "Show, create, change and delete networks."),
    "host": Verb("host", "Show the hosts, and forget those that are gone."),
    "ipam": Verb("ipam", "Show, check, release and reserve addresses."),
    "node": Verb("node", "Run this host's agent and look at it, as calicoctl's users do."),
    "get": Verb("resources.get", "Show Calico's resources."),
    "apply": Verb("resources.change", "Make the resources in files true."),
    "create": Verb("resources.change", "Create resources from files."),
    "replace": Verb("resources.change", "Replace resources by those in files."),
    "patch": Verb("resources.patch", "Change a part of a resource."),
    "delete": Verb("resources.change", "Delete resources."),
    "label": Verb("resources.patch", "Give labels to a resource."),
    "docker-opts": Verb("docker_opts", "Tell Docker's daemon of this host's block."),
    "ping": Verb("ping", "Show who reaches whom, between hosts and between containers."),
    "lab": Verb("lab", "Lay out several hosts on this machine, to learn and to try."),
    "demo": Verb("demo", "Show it all in a lab: traffic, tables, the wire, damage and repair."),
}

EPILOG = """\b
A first look, on this machine alone (needs root):
  netloom lab up --hosts 3 --preset flannel
  netloom ping --lab lab
  netloom lab down

\b
Exit codes: 0 done, 1 a bug of ours, 2 wrong usage, 3 invalid configuration,
4 conflict, 5 not permitted, 6 unavailable or not well, 7 refused by the kernel,
10 changes found by `plan --check`.
"""


class Verbs(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table: the order of a first use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb's command; None for an unknown verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module = f"netloom.cli.{verb.module}"
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise click.UsageError(f"{cmd_name!r} is not part of netloom {__version__}") from None
        command = getattr(loaded, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command), f"{module}.{cmd_name} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is answered with the nearest."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no such verb: {args[0]!r}; {nearest(args[0], VERBS)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from the table, without importing any verb."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(
    cls=Verbs,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", message="netloom %(version)s")
def netloom() -> None:
    """Join the containers of many hosts into one network."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    leave(lambda: run(list(sys.argv[1:] if args is None else args)))


def leave(command: Callable[[], int]) -> NoReturn:
    """Do a command and leave with the exit code that it returns."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: no letter ends a command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`netloom … | head`); Python would complain once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    sys.exit(code)


def run(args: list[str]) -> int:
    """Run one verb and return the exit code; every error is printed on stderr."""
    if "_NETLOOM_COMPLETE" in os.environ:
        netloom.main(args, prog_name="netloom")  # shell completion: click's own business
    return invoke(netloom, "netloom", args)


def invoke(
    command: click.Command, name: str, args: list[str], word: Callable[[str], str] = str
) -> int:
    """Run a command under ``name`` and return the exit code; errors are printed on stderr.

    ``word`` puts what they say into the words of another program's users.
    """
    try:
        with command.make_context(name, args) as context:
            command.invoke(context)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # ours to explain, whatever
        return explain(error, word)
    return 0


def explain(error: BaseException, word: Callable[[str], str] = str) -> int:
    """Print what went wrong, put by ``word``, and return the exit code."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        if type(error) is click.UsageError:  # one of ours: words of others are click's own
            error = click.UsageError(word(error.message), error.ctx)
        error.show()
        return WRONG_USAGE
    if isinstance(error, NetloomError) and not isinstance(error, Bug):
        _say(word(str(error)), word(error.hint))
        return error.exit_code
    return _bug(error)


def _bug(error: BaseException) -> int:
    traceback.print_exception(error)
    _say(
        f"this is a bug of ours: {type(error).__name__}: {error}",
        getattr(error, "hint", "") or "please report it with the lines above",
    )
    return Bug.exit_code


def _say(message: str, hint: str) -> None:
    for word, colour, text in (("error:", "red", message), ("hint:", "yellow", hint)):
        if text:
            told = shown(text, sys.stderr)
            print(f"{paint(word, colour, sys.stderr)} {told}", file=sys.stderr)
