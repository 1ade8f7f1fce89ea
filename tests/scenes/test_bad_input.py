"""Bad input from a user's chair: what is wrong is named with its remedy, and nothing is half done.

Definitions, CNI calls and store files each have their own tests below ``tests/unit``; here are
those that need a whole host: what is in its kernel, its rights, an agent beside a bad store.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
Ran = subprocess.CompletedProcess[str]


def run(host: LabHost, *argv: str, **environment: str) -> Ran:
    """Run a command on the host to its end."""
    return subprocess.run(
        host.command(argv),
        env={**host.environment, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def tables(host: LabHost) -> list[str]:
    """Return what of the kernel a network would change; not what bridges learn of traffic."""
    commands = ("ip -br link", "ip -4 addr", "ip route", "nft list ruleset")
    entries = host.exec(["bridge", "fdb"]).splitlines()
    kept = "\n".join(entry for entry in entries if entry.rstrip().endswith("permanent"))
    return [*(host.exec(command.split()) for command in commands), kept]


@pytest.fixture
def host(lab_up: LabUp) -> LabHost:
    """A host with the usual network and one container in it."""
    lab = lab_up(default_document(hosts=1))
    lab.host("h1").run("a")
    return lab.host("h1")


@pytest.fixture(scope="module")
def untouched(lab_names: Iterator[str]) -> Iterator[LabHost]:
    """A host with the usual network, for tests whose commands are all refused."""
    with Lab.up(default_document(hosts=1), name=next(lab_names), owner=myself()) as lab:
        yield lab.host("h1")


def problem_of(host: LabHost, subject: str) -> dict[str, Any]:
    """Wait for the problem of ``subject`` in the status, and return it."""

    def found() -> bool:
        return any(subject in problem["subject"] for problem in host.status()["problems"])

    wait_until(found, deadline_s=120, what=f"a problem of {subject} in the status")
    shown = run(host, "netloom", "status")
    assert shown.returncode == 6
    (problem,) = (p for p in host.status()["problems"] if subject in p["subject"])
    assert problem["text"] in shown.stdout
    assert problem["remedy"] in shown.stdout
    return dict(problem)


def settled(host: LabHost) -> bool:
    return bool(host.json(["netloom", "plan", "-o", "json"])["changes"] == [])


def well(host: LabHost) -> bool:
    return bool(host.status()["well"])


@pytest.mark.parametrize(
    ("in_the_way", "fields", "words"),
    [
        pytest.param(
            [], ["--pool", "192.168.0.0/16"], "contains the underlay address", id="underlay"
        ),
        pytest.param(
            ["ip route add 10.99.7.0/24 via 192.168.31.1"],
            ["--pool", "10.99.0.0/16"],
            "pools[0].cidr: 10.99.0.0/16 collides with",
            id="host route",
        ),
        pytest.param(
            [],
            ["--pool", "10.99.0.0/16", "--mtu", "9000"],
            "mtu: 9000 is above what this host's underlay carries: its MTU 1500 leaves 1450",
            id="MTU above the underlay's",
        ),
        pytest.param(
            ["ip link set ens33 mtu 1300"],
            ["--pool", "fd00:99::/56"],
            "the least is 1280",
            id="underlay too small for IPv6",
        ),
        pytest.param(
            ["ip link add theirs type vxlan id 9 dev ens33 dstport 8472"],
            ["--pool", "10.99.0.0/16"],
            "VNI 9 at port 8472 is taken by theirs",
            id="VNI of another's device",
        ),
        pytest.param(
            ["ip link add br9 type bridge", "ip addr add 172.30.0.1/24 dev br9"],
            ["--pool", "10.99.0.0/16"],
            "link of this name is there and is not ours",
            id="another's link of our name",
        ),
    ],
)
def test_a_network_that_cannot_stand_on_a_host_is_named_and_takes_nothing_from_the_others(
    host: LabHost, in_the_way: list[str], fields: list[str], words: str
) -> None:
    """What is in the way stays untouched, and once the network is gone all is as before."""
    for command in in_the_way:
        host.exec(command.split())
    wait_until(lambda: settled(host), deadline_s=120, what="nothing to change")
    before = tables(host)
    made = run(
        host,
        *("netloom", "network", "create", "blue", *fields),
        *("--set", "backend.vni=9", "--set", "attachment.bridge=br9"),
    )
    if made.returncode:
        assert made.returncode == 3
        assert words in made.stderr
        assert "hint:" in made.stderr
        assert tables(host) == before
        return
    assert wait_for_words(host, words)["remedy"]
    assert run(host, "netloom", "status").returncode == 6
    assert host.container("a").pings("10.244.0.1")
    assert host.run("b").pings(host.container("a").address), "the other network must go on"
    host.remove("b")
    host.exec(["netloom", "network", "delete", "blue"])
    wait_until(lambda: tables(host) == before, deadline_s=120, what="all as it was before")


def wait_for_words(host: LabHost, words: str) -> dict[str, Any]:
    """Wait until a problem of the status has ``words``, and return it."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        problems = host.status()["problems"]
        found[:] = [problem for problem in problems if words in problem["text"]]
        return bool(found)

    wait_until(there, deadline_s=120, what=f"{words!r} in the status")
    return found[0]


def test_what_is_in_the_way_once_removed_makes_room(host: LabHost) -> None:
    """Another's bridge of our name is a problem while it is there, and no longer."""
    host.exec(["ip", "link", "add", "br9", "type", "bridge"])
    host.exec(
        [
            *("netloom", "network", "create", "blue", "--pool", "10.99.0.0/16"),
            *("--set", "backend.vni=9", "--set", "attachment.bridge=br9"),
        ]
    )
    assert "not ours" in problem_of(host, "link br9")["text"]
    refused = run(host, "netloom", "status")
    assert refused.returncode == 6
    host.exec(["ip", "link", "delete", "br9"])
    wait_until(lambda: well(host), deadline_s=120, what="all well again")
    assert host.run("b", networks=["blue"]).pings("10.99.0.1")


LACKING = {
    "net_admin": "CAP_NET_ADMIN",
    "sys_admin": "CAP_SYS_ADMIN",
}


@pytest.mark.parametrize("name", LACKING)
def test_an_agent_without_a_capability_says_which_and_where_to_get_it(
    untouched: LabHost, name: str
) -> None:
    """It ends with 5 before it takes anything: the agent that runs is not in the way of saying."""
    host, agent = untouched, untouched.agent
    said = run(
        host, "setpriv", f"--bounding-set=-{name}", f"--inh-caps=-{name}", "netloom", "agent"
    )
    assert said.returncode == 5, said.stderr
    assert f"lacks {LACKING[name]}" in said.stderr
    assert "systemd: AmbientCapabilities=" in said.stderr
    assert "Traceback" not in said.stderr
    assert agent is not None
    assert host.agent == agent
    assert well(host)


@pytest.mark.parametrize(("flag", "key"), [("--state-dir", "stateDir"), ("--run-dir", "runDir")])
@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("/proc/no/such", 3, "cannot be made"),
        ("/dev/null/below", 3, "cannot be made"),
        ("{disk}/read-only/below", 5, "cannot be made"),
        ("{disk}/file", 3, "is not a folder"),
    ],
)
def test_an_agent_whose_folder_cannot_be_made_names_it_and_ends(
    lab_up: LabUp, tmp_path: Path, flag: str, key: str, place: str, code: int, words: str
) -> None:
    host = lab_up(default_document(hosts=1), run_agents=False).host("h1")
    (tmp_path / "read-only").mkdir()
    (tmp_path / "file").touch()
    mount = f"mount -t tmpfs -o ro tmpfs {tmp_path}/read-only && exec "
    path = place.format(disk=tmp_path)
    script = f"{mount} netloom agent {flag} {path}"
    said = run(host, "unshare", "-m", "--propagation", "private", "sh", "-c", script)
    assert said.returncode == code, said.stderr
    assert said.stderr.startswith(f"error: {key}: {path} {words}")
    assert "hint: " in said.stderr
    assert len(said.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "verb",
    [
        ["agent"],
        ["lab", "up"],
        ["lab", "list"],
        ["lab", "down", "--all"],
        ["demo"],
        ["status"],
        ["plan"],
        ["network", "list"],
        ["install"],
    ],
    ids=" ".join,
)
def test_without_root_a_verb_says_in_one_sentence_what_is_missing(
    untouched: LabHost, verb: list[str]
) -> None:
    said = run(
        untouched,
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(sys.executable, "-m", "netloom", *verb),
    )
    assert said.returncode == 5, (said.stdout, said.stderr)
    assert said.stderr.startswith("error: ")
    assert "hint: " in said.stderr
    assert len(said.stderr.splitlines()) == 2, said.stderr
    assert well(untouched)


#: In a mount namespace of its own, whose mounts end with it: a disk of one MiB with the store on
#: it, spoilt; then what a user sees of it.
STORE = """
disk=$1 home=$2  # $3: what the status will say
mount -t tmpfs -o size=1m tmpfs $disk
export NETLOOM_DATASTORE=sqlite://$disk/cluster.db
netloom network create default --preset flannel >$home/made || exit 1
cp $disk/cluster.db $home/before
{spoil}
cp $disk/cluster.db $home/spoilt
netloom network list; echo "list=$?"
netloom network create blue --pool 10.99.0.0/16; echo "create=$?"
cmp $disk/cluster.db $home/spoilt && echo untouched
export NETLOOM_STATE_DIR=$home/state NETLOOM_RUN_DIR=$home/run NETLOOM_SOCKET=$home/run/agent.sock
netloom agent 2>$home/log & agent=$!
until netloom status -o json >$home/status; [ -s $home/status ]; do
    kill -0 $agent || break
done
until netloom status | grep -A1 '^store' >$home/said; grep -qF "$3" $home/said; do
    kill -0 $agent || break
done
cat $home/said; netloom status >/dev/null; echo "status=$?"
{mend}
until netloom status | grep 'connected since'; do kill -0 $agent || break; done
until netloom status >/dev/null; do kill -0 $agent || break; done; echo "mended=$?"
kill $agent; wait $agent; echo "agent=$?"
"""
BAD_STORES = {
    "damaged": (
        "rm -f $disk/cluster.db-*; head -c 30000 /dev/zero | tr '\\0' x >$disk/cluster.db",
        "cp $home/before $disk/cluster.db",
        3,
        "is damaged",
        "restore it from a copy",
    ),
    "of a newer version": (
        'python3 -c "import sqlite3;'
        " sqlite3.connect('$disk/cluster.db').execute('PRAGMA user_version = 99')\"",
        "rm -f $disk/cluster.db-*; cp $home/before $disk/cluster.db",
        3,
        "was written by a newer Netloom: its schema is 99",
        "install the same version",
    ),
    "read-only": (
        "mount -o remount,ro $disk",
        "mount -o remount,rw $disk",
        5,
        "cannot be written",
        "remount",
    ),
    "on a full disk": (
        "dd if=/dev/zero of=$disk/ballast bs=4096 2>/dev/null",
        "rm $disk/ballast",
        6,
        "the disk is full",
        "free some space",
    ),
}


@pytest.mark.parametrize("kind", BAD_STORES)
def test_a_bad_store_is_told_alike_by_the_verbs_the_agent_and_its_status(
    lab_up: LabUp, tmp_path: Path, kind: str
) -> None:
    """Verbs end with the documented code, the agent waits for it to be mended, nothing is lost."""
    spoil, mend, code, words, remedy = BAD_STORES[kind]
    host = lab_up(default_document(hosts=1), run_agents=False).host("h1")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = STORE.replace("{spoil}", spoil).replace("{mend}", mend)
    unshare = ("unshare", "-m", "--propagation", "private", "bash", "-c", script, "bash")
    said = run(host, *unshare, str(disk), str(tmp_path), words)
    whole = said.stdout + said.stderr
    log = (tmp_path / "log").read_text()
    assert f"create={code}" in said.stdout, whole
    assert words in said.stderr
    assert f"hint: {remedy}" in said.stderr
    assert "untouched" in said.stdout, "a verb changed the file"
    assert "Traceback" not in whole + log
    assert words in log, "the agent's log does not say it"
    away = said.stdout.partition("away since")[2].partition("status=6")[0]
    assert words in away, whole
    assert remedy in away, whole
    assert "mended=0" in said.stdout, whole
    assert "agent=0" in said.stdout, whole
