"""``netloom install`` into a folder: what a host gets, what it keeps, what it gets back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netloom.cli import installation
from netloom.cli.installation import File, Installation
from netloom.drivers.cni.conflist import Conflist
from netloom.model.errors import Conflict, InvalidConfig

NETLOOM = (sys.executable, "-m", "netloom")
SOURCE = Path(installation.__file__).parents[2]
UNIT = "etc/systemd/system/netloom.service"
CONFLIST = "etc/cni/net.d/10-netloom.conflist"
SETTINGS = "etc/netloom/netloom.yaml"
FRONT = "opt/cni/bin/netloom-cni"


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def actions(self) -> dict[str, str]:
        """What was done or would be, by path."""
        return {step["what"]: step["action"] for step in json.loads(self.out)["steps"]}


def netloom(root: Path, verb: str, *options: str, before: tuple[str, ...] = ()) -> Said:
    done = subprocess.run(
        [*before, *NETLOOM, verb, "--root", str(root), "-o", "json", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    return Said(done.returncode, done.stdout, done.stderr)


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of every file."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's folder with something of others in each place."""
    for name in ("etc/systemd/system/other.service", "etc/cni/net.d/99-loopback.conf",
                 "opt/cni/bin/loopback"):  # fmt: skip
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True)
        path.write_text("another's")
    return tmp_path / "root"


def test_a_host_gets_unit_executable_conflist_and_settings_and_a_second_run_changes_nothing(
    root: Path,
) -> None:
    first = netloom(root, "install")
    assert first.code == 0, first.err
    assert first.actions == {
        f"/{FRONT}": "create",
        f"/{SETTINGS}": "create",
        f"/{UNIT}": "create",
        f"/{CONFLIST}": "create",
    }
    before = tree(root)
    again = netloom(root, "install")
    assert set(again.actions.values()) == {"unchanged", "keep"}
    assert tree(root) == before
    assert not [name for name in before if Path(name).name.startswith(".")]


def test_a_dry_run_lists_what_the_real_one_does_and_does_nothing(root: Path) -> None:
    before = tree(root)
    dry = netloom(root, "install", "--dry-run")
    assert dry.code == 0
    assert tree(root) == before
    assert dry.actions == netloom(root, "install").actions
    (root / UNIT).unlink()
    before = tree(root)
    assert netloom(root, "install", "--dry-run").actions[f"/{UNIT}"] == "create"
    assert tree(root) == before
    assert netloom(root, "uninstall", "--dry-run").actions == netloom(root, "uninstall").actions


def test_what_is_installed_works(root: Path) -> None:
    """The executable answers VERSION, the conflist is a conflist, systemd takes the unit."""
    netloom(root, "install", "--network", "blue", "--cni-bin-dir", "/opt/cni/bin",
            "--cni-bin-dir", "/usr/lib/cni")  # fmt: skip
    for front in (root / FRONT, root / "usr/lib/cni/netloom-cni"):
        answer = subprocess.run([front], input='{"cniVersion": "1.0.0"}', text=True,
                                capture_output=True, check=True, timeout=30,
                                env={"CNI_COMMAND": "VERSION"})  # fmt: skip
        assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]
    conflist = Conflist.load(root / CONFLIST)
    assert conflist.version == "1.0.0"
    (plugin,) = conflist.plugins
    assert (plugin.type, plugin.keys["network"]) == ("netloom-cni", "blue")
    assert plugin.capabilities == {"bandwidth", "ips", "mac", "portMappings"}
    unit = (root / UNIT).read_text()
    assert "Type=notify" in unit
    assert "KillMode=process" in unit
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", root / UNIT], capture_output=True,
                                 text=True, timeout=60, check=False)  # fmt: skip
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_sample_settings_are_accepted_as_they_are_and_with_every_comment_removed(
    root: Path, tmp_path: Path
) -> None:
    netloom(root, "install")
    sample = (root / SETTINGS).read_text()
    active = "\n".join(
        line.removeprefix("#") for line in sample.splitlines() if not line.startswith("# ")
    )
    for number, text in enumerate((sample, active)):
        config = tmp_path / f"{number}.yaml"
        config.write_text(text)
        from netloom.cli.settings import load_settings

        assert load_settings(env={}, config_path=config).datastore.startswith("sqlite://")


def test_settings_that_are_there_are_the_users_own(root: Path) -> None:
    settings = root / SETTINGS
    settings.parent.mkdir(parents=True)
    settings.write_text("datastore: sqlite:///mine.db\n")
    assert netloom(root, "install").actions[f"/{SETTINGS}"] == "keep"
    assert netloom(root, "uninstall").actions[f"/{SETTINGS}"] == "keep"
    assert settings.read_text() == "datastore: sqlite:///mine.db\n"


def test_files_that_are_not_ours_are_all_named_and_nothing_is_written(root: Path) -> None:
    for name in (CONFLIST, UNIT):
        (root / name).write_text("somebody else's")
    before = tree(root)
    refused = netloom(root, "install")
    assert refused.code == 4
    for name in (CONFLIST, UNIT):
        assert f"{root / name} is there and was not written by netloom" in refused.err
    assert "--force" in refused.err
    assert tree(root) == before
    assert netloom(root, "install", "--force").actions[f"/{UNIT}"] == "update"
    assert "ExecStart" in (root / UNIT).read_text()


def test_a_file_changed_by_hand_since_is_not_overwritten_without_force(root: Path) -> None:
    netloom(root, "install")
    unit = root / UNIT
    unit.write_text(unit.read_text().replace("RestartSec=1", "RestartSec=9"))
    refused = netloom(root, "install")
    assert refused.code == 4
    assert "was changed since it was installed" in refused.err
    assert netloom(root, "uninstall").actions[f"/{UNIT}"] == "keep"
    assert "RestartSec=9" in unit.read_text()


def test_a_new_release_brings_its_files_up_to_date(root: Path) -> None:
    """An older one's files stand there, and its record with their hashes."""
    netloom(root, "install")
    old = b"[Unit]\nDescription=older\n"
    installed = Installation(root)
    file = File(f"/{UNIT}", old, b"")
    installed.carry_out([file], installed.plan([file], force=True))
    assert (root / UNIT).read_bytes() == old
    assert netloom(root, "install").actions[f"/{UNIT}"] == "update"
    assert "Type=notify" in (root / UNIT).read_text()


def test_without_its_record_an_installation_is_known_by_its_marks(root: Path) -> None:
    """Also what a run that was killed before it wrote the record leaves."""
    before = tree(root)
    netloom(root, "install")
    (root / "var/lib/netloom/installed.json").unlink()
    (root / UNIT).write_text((root / UNIT).read_text() + "# of an older release\n")
    again = netloom(root, "install")
    assert again.actions[f"/{UNIT}"] == "update"
    assert again.actions[f"/{CONFLIST}"] == "unchanged"
    (root / "var/lib/netloom/installed.json").unlink()
    gone = netloom(root, "uninstall").actions
    assert gone[f"/{UNIT}"] == gone[f"/{CONFLIST}"] == gone[f"/{FRONT}"] == "remove"
    assert set(tree(root)) - set(before) <= {SETTINGS}


def test_uninstall_leaves_a_host_as_it_was_and_a_second_one_finds_nothing(root: Path) -> None:
    before = tree(root)
    netloom(root, "install")
    gone = netloom(root, "uninstall")
    assert gone.code == 0
    assert set(gone.actions.values()) == {"remove"}
    assert tree(root) == before
    assert not (root / "var/lib/netloom").exists()
    assert netloom(root, "uninstall").actions == {}


def test_uninstall_says_what_only_the_user_may_remove(root: Path) -> None:
    netloom(root, "install")
    (root / "var/lib/netloom/cluster.db").write_bytes(b"addresses")
    assert netloom(root, "uninstall").actions["/var/lib/netloom"] == "keep"
    assert (root / "var/lib/netloom/cluster.db").exists()


def test_without_the_right_to_write_the_remedy_is_one_sentence(nobody: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:  # pytest's own are root's alone
        Path(folder).chmod(0o755)
        said = netloom(Path(folder), "install", before=nobody)
        assert list(Path(folder).iterdir()) == []
    assert said.code == 5
    assert "Permission denied" in said.err
    assert "run it as root" in said.err
    assert "Traceback" not in said.err


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder_are_named(
    tmp_path: Path,
) -> None:
    (tmp_path / UNIT).mkdir(parents=True)
    said = netloom(tmp_path, "install")
    assert said.code == 4
    assert "netloom.service is a folder" in said.err
    (tmp_path / UNIT).rmdir()
    (tmp_path / "opt").write_text("a file")
    said = netloom(tmp_path, "install")
    assert said.code == 4, said.err
    assert "Traceback" not in said.err


def test_a_full_disk_leaves_no_half_file_and_a_later_run_completes(tmp_path: Path) -> None:
    """On a file system of 64 KiB: the executable alone is larger than what is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
mount -t tmpfs -o size=64k none {disk} && dd if=/dev/zero of={disk}/filler bs=1k count=40 2>&-
"$@"; echo "first $?"; find {disk} -type f | sort; rm {disk}/filler
mount -o remount,size=16m {disk}
"$@" > {tmp_path}/second; echo "second $?"; find {disk} -type f | sort
"""
    command = [*NETLOOM, "install", "--root", str(disk), "-o", "json"]
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", *command],
                          capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "PYTHONPATH": str(SOURCE)})  # fmt: skip
    first, _, second = done.stdout.partition("second 0")
    assert "first 6" in first
    assert "No space left" in done.stderr
    assert not [line for line in first.splitlines() if "/." in line.removeprefix(str(tmp_path))]
    for name in (FRONT, SETTINGS, UNIT, CONFLIST):
        assert f"{disk}/{name}" in second


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "{"])
def test_a_damaged_record_is_named_with_the_remedy(root: Path, text: str) -> None:
    record = root / "var/lib/netloom/installed.json"
    record.parent.mkdir(parents=True)
    record.write_text(text)
    said = netloom(root, "install")
    assert said.code == 3
    assert "installed.json is damaged" in said.err
    assert "remove" in said.err


def test_a_plan_names_every_conflict_at_once(tmp_path: Path) -> None:
    files: list[Any] = [File(f"/{name}", b"ours", b"mark") for name in "abc"]
    for name in "ac":
        (tmp_path / name).write_text("theirs")
    with pytest.raises(Conflict, match=r"/a is there.*/c is there"):
        Installation(tmp_path).plan(files)
    (tmp_path / "var/lib/netloom").mkdir(parents=True)
    (tmp_path / "var/lib/netloom/installed.json").write_text("no JSON")
    with pytest.raises(InvalidConfig):
        Installation(tmp_path)
