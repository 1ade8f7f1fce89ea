"""The routing daemon as a kernel object: started, adopted, killed, wedged, misled, in the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import Netns
from tests.unit.views import ip, net

from netloom.core.bgp.plan import BgpPlan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session
from netloom.kernel import commands
from netloom.kernel.bird import process
from netloom.kernel.bird.apply import NEW
from netloom.kernel.bird.control import CONFIG, SOCKET, Control, listener
from netloom.kernel.bird.daemon import BIRD_KINDS
from netloom.kernel.bird.sessions import resting, sessions
from netloom.kernel.compose import HostKernel
from netloom.kernel.netlink import open_socket, split
from netloom.kernel.wire import RTM_DELROUTE, RTM_NEWROUTE
from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, KernelRejected, NetloomError, Unavailable
from netloom.model.kernel import BIRD_PROTOCOL, Bird, Route
from netloom.reconcile.contracts import Change, KernelEvents, Verb

POOL = net("10.233.0.0/16")
IPV4_ROUTES = 7  # RTNLGRP_IPV4_ROUTE
PATIENCE_S = 60.0  # no test waits this long unless it fails


@dataclass
class End:
    """A host with its kernel; its block is 10.233.<number>.0/26."""

    host: Netns
    address: str
    peer: str
    number: int
    run_dir: Path
    kernel: HostKernel

    @property
    def directory(self) -> Path:
        return self.run_dir / "bird"

    @property
    def pid(self) -> int:
        return listener(self.directory)

    def bird(self, **changes: object) -> Bird:
        here, there = ip(self.address), ip(self.peer)
        name = "Mesh_" + self.peer.replace(".", "_")
        session = Session(name, here, there, 64512, (POOL,), int(there) > int(here))
        own = net(f"10.233.{self.number}.0/26")
        plan = BgpPlan(here, 64512, (own,), (session,), ("ens33",), **changes)  # type: ignore[arg-type]
        return Bird(render(plan))

    def read(self) -> list[object]:
        return self.host.call(lambda: self.kernel.read(BIRD_KINDS))

    def try_(self, verb: Verb, bird: Bird) -> NetloomError | None:
        return self.host.call(lambda: self.kernel.apply([Change(verb, bird)]))[0].error

    def apply(self, verb: Verb, bird: Bird) -> None:
        assert self.try_(verb, bird) is None

    def start(self) -> None:
        """Bring BIRD up, and wait for the route to the own block: it writes that by and by."""
        self.apply(Verb.ADD, self.bird())
        own = f"10.233.{self.number}.0/26"
        wait_until(lambda: own in self.routes(), deadline_s=PATIENCE_S, what=own)

    def routes(self) -> dict[str, str]:
        found = self.host.call(lambda: self.kernel.read({"route"}))
        return {
            str(r.destination): str(r.gateway or r.type)
            for r in found
            if isinstance(r, Route) and r.protocol == BIRD_PROTOCOL
        }

    def again(self) -> HostKernel:
        """Close the kernel as an agent that ends does, and open it anew."""
        self.kernel.close()
        self.kernel = opened(self.host, self.run_dir)
        return self.kernel


def opened(host: Netns, run_dir: Path) -> HostKernel:
    kernel: HostKernel = host.call(lambda: HostKernel(run_dir))
    kernel._bird._patience_s = PATIENCE_S
    return kernel


@pytest.fixture
def ends(two_hosts, tmp_path: Path) -> Iterator[tuple[End, End]]:
    addresses = ("192.168.31.62", "192.168.31.63")
    made = [
        End(
            host,
            addresses[place],
            addresses[1 - place],
            place + 1,
            tmp_path / str(place),
            opened(host, tmp_path / str(place)),
        )
        for place, host in enumerate(two_hosts[:2])
    ]
    for end in made:
        end.run_dir.mkdir()
    yield made[0], made[1]
    for end in made:
        if end.pid:
            os.kill(end.pid, signal.SIGKILL)
        end.kernel.close()


@pytest.fixture
def here(ends: tuple[End, End]) -> End:
    ends[0].start()
    return ends[0]


def hear(events: KernelEvents) -> None:
    """Wait for a word about BIRD; its routes may be news, too."""
    wait_until(
        lambda: events.wait(PATIENCE_S) >= BIRD_KINDS, deadline_s=PATIENCE_S, what="a word about it"
    )


def test_two_daemons_learn_each_others_block(ends: tuple[End, End]) -> None:
    for end in ends:
        end.apply(Verb.ADD, end.bird())
    first, second = ends
    wanted = {"10.233.1.0/26": "blackhole", "10.233.2.0/26": second.address}
    wait_until(lambda: first.routes() == wanted, deadline_s=PATIENCE_S, what="both blocks")
    with Control(first.directory) as control:
        assert [(s.peer, s.info) for s in sessions(control)] == [(second.address, "Established")]


def test_the_next_agent_finds_the_daemon_and_changes_nothing(here: End) -> None:
    pid = here.pid
    here.again()
    assert here.read() == [here.bird()]
    assert here.pid == pid


def test_its_end_is_news_and_it_is_started_with_its_routes_standing(here: End) -> None:
    events = here.host.call(here.kernel.events)
    before = here.routes()
    pid = here.pid
    os.kill(pid, signal.SIGKILL)
    hear(events)
    events.close()
    assert here.read() == [Bird("", running=False)]
    assert here.routes() == before
    here.apply(Verb.REPLACE, here.bird())
    assert here.pid not in (0, pid)
    assert here.routes() == before
    assert here.read() == [here.bird()]


def test_a_wrong_configuration_is_refused_and_the_old_one_stays(here: End) -> None:
    error = here.try_(Verb.REPLACE, Bird("protocol nonsense {};\n"))
    assert isinstance(error, KernelRejected)
    assert "syntax error" in str(error)
    assert here.read() == [here.bird()]
    assert "10.233.1.0/26" in here.routes()


def test_what_it_refuses_does_not_keep_it_from_starting_again(here: End) -> None:
    """It goes on with what it had: routes and sessions stay, whatever became wrong since."""
    pid, before = here.pid, here.routes()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not here.pid, deadline_s=PATIENCE_S, what="its end")
    error = here.try_(Verb.REPLACE, Bird("protocol nonsense {};\n"))
    assert isinstance(error, KernelRejected)
    assert "syntax error" in str(error)
    assert here.pid not in (0, pid)
    assert here.read() == [here.bird()]
    assert here.routes() == before
    here.again()
    assert here.read() == [here.bird()]


def test_the_first_configuration_of_all_is_refused_and_none_is_started(
    ends: tuple[End, End],
) -> None:
    error = ends[0].try_(Verb.ADD, Bird("protocol nonsense {};\n"))
    assert isinstance(error, KernelRejected)
    assert (ends[0].pid, ends[0].read()) == (0, [])


def test_one_that_is_not_confirmed_is_undone_by_itself(here: End) -> None:
    """An agent that ends between the two leaves no host with half a change."""
    new = here.directory / NEW
    new.write_text(here.bird().config.replace("10.233.1.0/26", "10.233.9.0/26"))
    told: list[int] = []
    with here.host.call(lambda: open_socket(groups=[IPV4_ROUTES])) as kernel:
        kernel.settimeout(PATIENCE_S)
        with Control(here.directory) as control:
            assert not control.ask(f'configure "{NEW}" timeout 1').failed
        while RTM_DELROUTE not in told:
            new = ip("10.233.9.0").packed
            told += [kind for kind, _, _, about in split(kernel.recv(65536)) if new in about]
    assert told == [RTM_NEWROUTE, RTM_DELROUTE]
    old = "10.233.1.0/26"
    wait_until(lambda: old in here.routes(), deadline_s=PATIENCE_S, what="the old block")
    assert here.read() == [here.bird()]


@pytest.mark.parametrize("lost", ["socket", "directory"])
@pytest.mark.parametrize("remembered", [True, False])
def test_one_whose_files_were_deleted_is_replaced_and_no_other_is(
    ends: tuple[End, End], tmp_path: Path, lost: str, remembered: bool
) -> None:
    """Two would not do: the first has the port. Another's BIRD on the host is left alone."""
    end = ends[0]
    end.start()
    pid, before = end.pid, end.routes()
    another = tmp_path / "another"
    another.mkdir()
    (another / CONFIG).write_text("router id 9.9.9.9;\nprotocol device {}\n")
    others = end.host.call(lambda: process.start(another, recover=False))
    try:
        if lost == "socket":
            (end.directory / SOCKET).unlink()
        else:
            shutil.rmtree(end.directory)
        if remembered:
            assert end.read() == [Bird("", running=False)]
        else:
            end.again()
        assert end.routes() == before
        end.apply(Verb.REPLACE, end.bird())
        assert end.pid not in (0, pid)
        wait_until(lambda: has_ended(pid), deadline_s=PATIENCE_S, what="the end of the first")
        assert end.read() == [end.bird()]
        assert end.routes() == before
        assert others.poll() is None
    finally:
        others.kill()
        others.wait()


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("name", ["Mesh_192_168_31_63", "kernel4", "blocks4"])
def test_what_another_hand_disabled_is_news_and_goes_on(here: End, name: str) -> None:
    events = here.host.call(here.kernel.events)
    here.read()
    with Control(here.directory) as control:
        assert not control.ask(f"disable {name}").failed
    hear(events)
    events.close()
    assert here.read() == [Bird("")]
    here.apply(Verb.REPLACE, here.bird())
    assert here.read() == [here.bird()]
    with Control(here.directory) as control:
        assert resting(control) == []
    assert "10.233.1.0/26" in here.routes()


def test_only_root_may_read_the_configuration(here: End) -> None:
    assert (here.directory / CONFIG).stat().st_mode & 0o077 == 0


def test_what_another_hand_did_to_it_is_seen_and_put_back(here: End) -> None:
    other = here.directory / "other.conf"
    other.write_text("router id 1.1.1.1;\nprotocol device {}\n")
    with Control(here.directory) as control:
        assert not control.ask('configure "other.conf"').failed
    assert here.read() == [Bird("")]
    here.apply(Verb.REPLACE, here.bird())
    assert here.read() == [here.bird()]
    with (here.directory / CONFIG).open("a") as config:
        config.write("# mine\n")
    assert here.read() == [Bird("")]
    here.apply(Verb.REPLACE, here.bird())
    assert here.read() == [here.bird()]


def test_a_wedged_one_holds_nobody_up_and_is_replaced(ends: tuple[End, End]) -> None:
    end = ends[0]
    end.start()
    pid, patience_s = end.pid, end.kernel._bird._patience_s
    os.kill(pid, signal.SIGSTOP)
    end.kernel._bird._patience_s = 0.2
    assert end.read() == [Bird("", running=False)]
    end.kernel._bird._patience_s = patience_s  # the next one may take its time to begin
    assert "10.233.1.0/26" in end.routes()
    end.apply(Verb.REPLACE, end.bird())
    assert end.pid != pid
    assert end.read() == [end.bird()]


def test_that_it_is_stuck_is_news(here: End) -> None:
    events = here.host.call(here.kernel.events)
    os.kill(here.pid, signal.SIGSTOP)
    hear(events)
    events.close()


def test_that_another_hand_configured_it_is_news(here: End) -> None:
    events = here.host.call(here.kernel.events)
    other = here.directory / "other.conf"
    other.write_text("router id 1.1.1.1;\nprotocol device {}\n")
    with Control(here.directory) as control:
        assert not control.ask('configure "other.conf"').failed
    hear(events)
    events.close()
    here.apply(Verb.REPLACE, here.bird())
    assert here.read() == [here.bird()]


def test_another_program_at_its_socket_is_named_and_left_alone(ends: tuple[End, End]) -> None:
    end = ends[0]
    end.directory.mkdir()
    end.kernel._bird._patience_s = 0.2
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(end.directory / "bird.ctl"))
        taken.listen()
        error = end.try_(Verb.ADD, end.bird())
        assert isinstance(error, Conflict)
        assert f"process {os.getpid()}" in str(error)


@pytest.mark.parametrize("port", [179, 1790])
def test_a_taken_port_is_named_and_taken_up_when_it_is_free(
    ends: tuple[End, End], port: int
) -> None:
    end = ends[0]

    def occupy() -> socket.socket:
        taken = socket.socket()
        taken.bind(("0.0.0.0", port))
        taken.listen()
        return taken

    taken = end.host.call(occupy)
    error = end.try_(Verb.ADD, end.bird(port=port))
    assert isinstance(error, Conflict)
    assert f"TCP port {port} is taken" in str(error)
    assert end.read() == [Bird("")]
    taken.close()
    end.apply(Verb.REPLACE, end.bird(port=port))
    assert end.read() == [end.bird(port=port)]


def test_a_right_that_it_lacks_is_named_and_taken_up_when_the_agent_has_it(
    ends: tuple[End, End],
) -> None:
    """It outlives the agent that lacked the right: the next one starts it anew."""
    end = ends[0]
    start = """\
import sys
from pathlib import Path
from netloom.kernel.compose import HostKernel
from netloom.model.kernel import Bird
from netloom.reconcile.contracts import Change, Verb
kernel = HostKernel(Path(sys.argv[1]))
error = kernel.apply([Change(Verb.ADD, Bird(sys.stdin.read()))])[0].error
print(type(error).__name__, error, error.hint, sep="; ")
"""
    less = ["setpriv", "--bounding-set", "-net_bind_service"]
    run = [*less, sys.executable, "-c", start, str(end.run_dir)]
    assert end.host.run(*run, input=end.bird().config) == (
        "NotPermitted; BIRD may not listen at TCP port 179 for its BGP peers: it has no "
        "CAP_NET_BIND_SERVICE; give the agent CAP_NET_BIND_SERVICE (systemd: "
        "CapabilityBoundingSet=, and AmbientCapabilities= for a user other than root), or set "
        "listenPort to 1024 or above\n"
    )
    assert end.read() == [Bird("")]
    pid = end.pid
    end.apply(Verb.REPLACE, end.bird())
    assert end.read() == [end.bird()]
    assert end.pid != pid


@pytest.mark.parametrize("dead", [False, True])
def test_when_it_goes_its_routes_go_with_it(here: End, dead: bool) -> None:
    """Also those of one that was killed: another one is started that takes them away."""
    pid = here.pid
    if dead:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not here.pid, deadline_s=PATIENCE_S, what="its end")
    here.apply(Verb.DELETE, here.bird())
    assert here.routes() == {}
    assert here.pid == 0
    assert here.read() == []
    assert list(here.directory.iterdir()) == []


def test_a_missing_bird_is_told_with_its_package() -> None:
    """In a mount namespace where the program is hidden."""
    ask = """\
from netloom.kernel.bird import process
from netloom.model.errors import Unavailable
try:
    process.require_version()
except Unavailable as error:
    print(error, error.hint, sep="; ")
"""
    hide = 'mount --bind /dev/null "$0"; exec "$@"'
    argv = ["unshare", "-m", "sh", "-ec", hide, commands.find("bird"), sys.executable, "-c", ask]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "the program bird is not installed; apt-get install bird2\n"


def test_an_old_bird_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bird"
    old.write_text("#!/bin/sh\necho BIRD version 1.6.8 >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"1\.6\.8") as caught:
        process.require_version()
    assert "bird2" in caught.value.hint


def test_a_session_that_stays_is_not_touched_by_a_change(ends: tuple[End, End]) -> None:
    """Another block is announced; the session goes on, and the peer hears of it."""
    for end in ends:
        end.apply(Verb.ADD, end.bird())
    first, second = ends
    wait_until(lambda: "10.233.1.0/26" in second.routes(), deadline_s=PATIENCE_S, what="the block")
    with Control(first.directory) as control:
        before = sessions(control)
    more = first.bird().config.replace(
        "route 10.233.1.0/26 blackhole;",
        "route 10.233.1.0/26 blackhole;\n  route 10.233.9.0/26 blackhole;",
    )
    first.apply(Verb.REPLACE, Bird(more))
    wait_until(
        lambda: "10.233.9.0/26" in second.routes(), deadline_s=PATIENCE_S, what="the new block"
    )
    with Control(first.directory) as control:
        assert sessions(control) == before
