"""The project's own commands: what they say before they act, and what they leave alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import sweeping

from netloom.kernel import namespaces
from netloom.lab.processes import Process, myself
from netloom.lab.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
PROGRAMS = "/usr/bin:/bin:/usr/sbin:/sbin"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def copy() -> Iterator[Path]:
    """A copy of the commands where everybody may go, and ``bin`` for stand-ins on the PATH."""
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "bin").mkdir()
        shutil.copytree(ROOT / "scripts", place / "scripts")
        shutil.copytree(ROOT / ".ci", place / ".ci")
        shutil.copy(ROOT / "Makefile", place)
        yield place


def stand_in(place: Path, name: str, script: str) -> None:
    path = place / "bin" / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def run(
    place: Path, *command: str, user: int | None = None, programs: str = PROGRAMS
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env={"PATH": f"{place}/bin:{programs}"},
        user=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_help_is_the_first_goal_and_names_all_of_them(copy: Path) -> None:
    done = run(copy, "make")
    goals = {line.split()[1] for line in done.stdout.splitlines()}
    assert goals >= {"demo", "test", "test-all", "lint", "bench", "build", "clean", "help"}


@needs_root
@pytest.mark.parametrize("goal", ["demo", "test", "test-all", "bench"])
def test_without_root_one_sentence_says_what_to_do(copy: Path, goal: str) -> None:
    done = run(copy, "make", goal, user=NOBODY)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0
    assert len(said) == 1
    assert f"please run `sudo make {goal}`" in said[0]


@needs_root
def test_missing_packages_are_named_and_nothing_is_installed_without_root(copy: Path) -> None:
    stand_in(copy, "dpkg-query", '[[ ${!#} == tcpdump ]] || echo -n "installed"')
    stand_in(copy, "apt-get", "touch $(dirname $0)/../called")
    done = run(copy, "scripts/setup", user=NOBODY)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("These Debian packages are missing: tcpdump;")
    assert not (copy / "called").exists()
    assert not (copy / ".venv").exists()


PACKAGES_OF_ENGINE = """
[[ ${!#} == docker.io || ${!#} == containerd ]] || echo -n installed"""
LOGGED = 'echo "${0##*/} $*" >>$(dirname $0)/../called'


def all_programs_but(place: Path, name: str) -> str:
    folder = place / "programs"
    folder.mkdir()
    for each in PROGRAMS.split(":"):
        for program in Path(each).iterdir():
            link = folder / program.name
            if program.name != name and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


@needs_root
def test_an_engine_that_setup_installs_starts_neither_now_nor_at_boot(copy: Path) -> None:
    """Its service would rewrite the firewall of the machine that the tests run on."""
    stand_in(copy, "dpkg-query", PACKAGES_OF_ENGINE)
    policy = "/usr/sbin/policy-rc.d"
    stand_in(
        copy, "apt-get", f"{LOGGED}; [[ ! -x {policy} ]] || {policy} docker start; {LOGGED} $?"
    )
    for name in ("systemctl", "update-rc.d"):
        stand_in(copy, name, LOGGED)
    run(copy, "scripts/setup", "/bin/false", programs=all_programs_but(copy, "dockerd"))
    said = (copy / "called").read_text().splitlines()
    installing = next(line for line in said if line.startswith("apt-get install"))
    assert installing.endswith(" docker.io")
    assert "--no-remove" in installing
    assert f"{installing} 101" in said
    assert "systemctl disable --quiet docker.service docker.socket containerd.service" in said
    assert "update-rc.d docker disable" in said


@needs_root
def test_where_another_package_is_missing_no_service_is_touched(copy: Path) -> None:
    stand_in(copy, "dpkg-query", '[[ ${!#} == tcpdump ]] || echo -n "installed"')
    for name in ("apt-get", "systemctl", "update-rc.d"):
        stand_in(copy, name, LOGGED)
    run(copy, "scripts/setup", "/bin/false")
    said = (copy / "called").read_text().splitlines()
    assert {line.split()[0] for line in said} == {"apt-get"}


@needs_root
def test_an_engine_from_elsewhere_is_left_where_it_is(copy: Path) -> None:
    """Debian's package would take the place of docker-ce."""
    stand_in(copy, "dpkg-query", PACKAGES_OF_ENGINE)
    for name in ("apt-get", "systemctl", "update-rc.d"):
        stand_in(copy, name, LOGGED)
    stand_in(copy, "dockerd", "true")
    run(copy, "scripts/setup", "/bin/false")
    assert not (copy / "called").exists()


@pytest.mark.parametrize("code", [0, 1])
def test_ci_prints_pytests_closing_line_last_and_keeps_the_code(copy: Path, code: int) -> None:
    closing = "=== 3 passed, 1 skipped in 0.12s ==="
    stand_in(copy, "make", f"echo '{closing}'; echo 'make: *** [test] Error'; exit {code}")
    done = run(copy, ".ci/run")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, closing)


def test_ci_says_so_when_pytest_never_closed(copy: Path) -> None:
    stand_in(copy, "make", "echo 'ruff: something'; exit 2")
    done = run(copy, ".ci/run")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("make test ended with code 2")


@pytest.fixture
def alone() -> Iterator[None]:
    """Keep runs that begin meanwhile from doing what the test wants to see done."""
    with sweeping():
        yield


@needs_root
@pytest.mark.usefixtures("alone")
def test_the_sweep_removes_what_dead_runs_left_and_spares_live_ones(copy: Path) -> None:
    me = myself()
    gone = subprocess.Popen(["/bin/true"])
    gone.wait(timeout=60)
    assert Process.of(gone.pid) is None
    dead, live = f"nl-t{gone.pid}x1-swept", f"nl-t{me.pid}x{me.start:x}-kept"
    groups = next(path.parent for path in Path("/sys/fs/cgroup").rglob("cgroup.procs"))
    for name in (dead, live):
        namespaces.create(name)
        (groups / name / "container").mkdir(parents=True)
    left = namespaces.path(dead)
    inside = subprocess.Popen(["nsenter", f"--net={left}", "sleep", "600"])
    try:
        wait_until(
            lambda: Path(f"/proc/{inside.pid}/comm").read_text() == "sleep\n",
            deadline_s=60,
            what="a process in the dead run's namespace",
        )
        done = run(copy, "scripts/sweep")
        assert f"removing {dead}," in done.stdout
        assert namespaces.names(dead) == []
        assert namespaces.names(live) == [live]
        assert not (groups / dead).exists()
        assert (groups / live / "container").exists()
        assert inside.wait(timeout=60) == -9
    finally:
        inside.kill()
        inside.wait(timeout=60)
        for name in (dead, live):
            namespaces.delete(name)
            for group in (groups / name / "container", groups / name):
                with suppress(FileNotFoundError):
                    group.rmdir()
