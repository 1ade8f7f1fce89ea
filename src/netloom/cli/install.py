"""``netloom install`` and ``uninstall``: what a real host needs beside the program itself."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import click

from netloom.cli.installation import File, Installation, Step
from netloom.cli.options import output_option
from netloom.cli.render import Table, emit
from netloom.cli.unit import CNI_TYPE, UNIT_MARK, conflist, sample_settings, unit
from netloom.model.errors import Unavailable
from netloom.model.kernel import FORWARD_CHAIN

UNIT = "/etc/systemd/system/netloom.service"
SETTINGS = "/etc/netloom/netloom.yaml"
CONFLIST = "/etc/cni/net.d/10-netloom.conflist"
CNI_BIN = "/opt/cni/bin"
DEBIAN_CNI_BIN = "/usr/lib/cni"
_SERVICE = "netloom.service"
#: In the order of installation: a runtime takes a conflist up at once, so it comes last.
_USUAL = {
    f"{DEBIAN_CNI_BIN}/{CNI_TYPE}": b"netloom",
    f"{CNI_BIN}/{CNI_TYPE}": b"netloom",
    SETTINGS: b"",
    UNIT: UNIT_MARK.encode(),
    CONFLIST: f'"{CNI_TYPE}"'.encode(),
}
_FOLDER = click.Path(file_okay=False, path_type=Path)

root_option = click.option(
    "--root",
    type=_FOLDER,
    default=Path("/"),
    metavar="DIR",
    help="Work on the system in DIR, such as an image; systemd is left alone then.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="List what would be done, and do nothing."
)


@click.command(
    "install",
    epilog="""\b
Examples:
  netloom install --dry-run
  netloom install --now
  netloom install --cni-bin-dir /usr/lib/cni     # where Debian's podman looks
""",
)
@click.option("--now", is_flag=True, help="Start the agent too, or restart a changed one.")
@click.option("--force", is_flag=True, help="Overwrite files that are not ours or were changed.")
@click.option(
    "--cni-bin-dir",
    "folders",
    multiple=True,
    default=(CNI_BIN,),
    show_default=True,
    metavar="DIR",
    help="Folder of CNI executables; may be given more than once.",
)
@click.option(
    "--network", default="default", show_default=True, help="The network that containers join."
)
@click.option(
    "--cni-name", default="netloom", show_default=True, help="The conflist's own name for it."
)
@click.option("--no-cni", is_flag=True, help="Leave container runtimes alone.")
@root_option
@dry_run_option
@output_option
def install(
    *,
    now: bool,
    force: bool,
    folders: tuple[str, ...],
    network: str,
    cni_name: str,
    no_cni: bool,
    root: Path,
    dry_run: bool,
    output: str,
) -> None:
    """Set up this host: systemd unit, CNI executable, conflist, a sample of the settings.

    Repeating it changes nothing; after an upgrade it brings everything up to date. Files that are
    not ours are never overwritten.
    """
    files = [File(SETTINGS, sample_settings().encode(), b"", once=True)]
    files.append(File(UNIT, unit(_command()).encode(), UNIT_MARK.encode()))
    if not no_cni:
        front = _front()
        files = [
            File(f"{folder}/{CNI_TYPE}", front, b"netloom", 0o755) for folder in folders
        ] + files
        text = conflist(cni_name, network).encode()
        files.append(File(CONFLIST, text, _USUAL[CONFLIST], 0o644))
    installation = Installation(root)
    steps = installation.plan(files, force=force)
    commands = _systemd_steps(steps, now) if _has_systemd(root) else []
    if not dry_run:
        installation.carry_out(files, steps)
        _run(commands)
    _show([*steps, *commands], output, dry_run, _next(root, now))


@click.command("uninstall", epilog="Example: netloom uninstall --dry-run")
@click.option("--force", is_flag=True, help="Remove installed files even if they were changed.")
@root_option
@dry_run_option
@output_option
def uninstall(force: bool, root: Path, dry_run: bool, output: str) -> None:
    """Undo what install did, and say what is left.

    Containers keep their network: links, routes and the firewall stay until the next boot.
    """
    installation = Installation(root)
    steps = installation.plan_removal(_USUAL, force=force)
    goes = any(step.action == "remove" and step.what == UNIT for step in steps)
    systemd = _has_systemd(root) and goes
    before = [Step("run", f"systemctl disable --now {_SERVICE}")] if systemd else []
    after = [Step("run", "systemctl daemon-reload")] if systemd else []
    if not dry_run:
        _run(before)
        installation.remove(steps)
        _run(after)
    _show([*before, *steps, *after, *_left(installation, root)], output, dry_run, "")


def _left(installation: Installation, root: Path) -> list[Step]:
    """Return what nobody but the user may remove."""
    left = []
    state = installation.place("/var/lib/netloom")
    if state.is_dir() and any(entry.name != "installed.json" for entry in state.iterdir()):
        why = "this host's identity, addresses and store; to forget them: rm -r"
        left.append(Step("keep", "/var/lib/netloom", why))
    if root == Path("/"):
        why = "containers keep their network until they end, the rest stays until the next boot"
        left.append(Step("keep", f"links, routes, nft tables netloom, chains {FORWARD_CHAIN}", why))
    return left


def _command() -> Path:
    """Return the ``netloom`` that is running, for the unit to start."""
    called = Path(sys.argv[0])
    if called.name == "netloom" and called.is_file():
        return called.absolute()
    beside = Path(sysconfig.get_path("scripts")) / "netloom"
    found = beside if beside.is_file() else shutil.which("netloom")
    if not found:
        raise Unavailable(
            "cannot tell where the netloom command is installed",
            hint="install the package first: pip install netloom",
        )
    return Path(found).absolute()


def _front() -> bytes:
    """Return the CNI executable: the compiled one where there is one, else the Python one."""
    from netloom.drivers.cni import build

    with tempfile.TemporaryDirectory() as folder:
        return build.install(Path(folder) / CNI_TYPE).read_bytes()


def _has_systemd(root: Path) -> bool:
    """Tell whether this very system runs under systemd: sd_booted(3)."""
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def _systemd_steps(steps: list[Step], now: bool) -> list[Step]:
    changed = {step.what for step in steps if step.action in ("create", "update")}
    commands = ["systemctl daemon-reload"] if UNIT in changed else []
    commands.append(f"systemctl enable {_SERVICE}")
    if now:
        commands.append(f"systemctl {'restart' if UNIT in changed else 'start'} {_SERVICE}")
    return [Step("run", command) for command in commands]


def _run(steps: list[Step]) -> None:
    from netloom.kernel import commands

    for step in steps:
        done = commands.run(*step.what.split(), timeout_s=120)
        if done.code:
            raise Unavailable(
                f"{step.what}: {done.complaint}", hint=f"look with: systemctl status {_SERVICE}"
            )


def _next(root: Path, now: bool) -> str:
    if now or not _has_systemd(root):
        return ""
    return "\nTo start the agent: systemctl start netloom    (or: netloom install --now)"


def _show(steps: list[Step], output: str, dry_run: bool, epilogue: str) -> None:
    document: dict[str, Any] = {
        "dryRun": dry_run,
        "steps": [{"action": s.action, "what": s.what, "why": s.why} for s in steps],
    }

    def text() -> str:
        if not steps:
            return "nothing is installed"
        table = Table(("ACTION", "WHAT", "WHY"))
        for step in steps:
            table.rows.append([step.action, step.what, step.why])
        return table.render() + ("\n\nNothing was done: --dry-run." if dry_run else epilogue)

    emit(output, document, text)
