"""The laboratory without agents: hosts, cables, routers, what is left of them, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.kernel import namespaces
from netloom.lab import processes, record, teardown
from netloom.lab.documents import default_document, load_document
from netloom.lab.lab import Lab
from netloom.lab.processes import Process, myself
from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, InvalidConfig, NetloomError


def netloom(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "netloom", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def leftovers(name: str) -> list[object]:
    """Return everything that still stands of a lab."""
    left: list[object] = [*teardown.namespaces_of(name), *processes.members(name)]
    if record.directory(name).exists():
        left.append(record.directory(name))
    return left


def links_of_the_machine() -> set[str]:
    return {line.split(":")[1] for line in subprocess.getoutput("ip -o link").splitlines()}


def test_every_host_reaches_every_other_and_its_gateway(lab_up) -> None:
    lab = lab_up(default_document(hosts=3), run_agents=False)
    one = lab.host("h1")
    for address in ("192.168.31.63", "192.168.31.64", "192.168.31.1"):
        assert one.pings(address), address
    assert one.json(["ip", "-j", "route", "show", "default"])[0]["gateway"] == "192.168.31.1"


def test_hosts_reach_each_other_through_a_router(lab_up) -> None:
    lab = lab_up(load_document("scene2-router"), run_agents=False)
    assert lab.host("h1").pings("192.168.32.64")
    hops = lab.host("h1").json(["ip", "-j", "route", "get", "192.168.32.64"])
    assert hops[0]["gateway"] == "192.168.31.1"


def test_both_families_work_at_once_without_waiting_for_duplicate_detection(lab_up) -> None:
    lab = lab_up(load_document("dualstack"), run_agents=False)
    assert lab.host("h1").pings("fd31::63")
    assert lab.host("h1").pings("192.168.31.63")


def test_cards_have_the_names_that_the_file_gives_them(lab_up) -> None:
    lab = lab_up(load_document("scene3"), run_agents=False)
    links = lab.host("vms72").json(["ip", "-j", "-4", "address"])
    found = {link["ifname"]: link["addr_info"][0]["local"] for link in links}
    assert found["eth1"] == "192.168.26.72"
    assert found["eth0"] == "192.168.30.72"


def test_the_mtu_of_a_segment_is_that_of_its_cards_and_holds_on_the_way(lab_up) -> None:
    document = default_document(hosts=2)
    document["segments"][0]["mtu"] = 9000
    lab = lab_up(document, run_agents=False)
    whole = ["ping", "-c1", "-W5", "-Mdo", "192.168.31.63", "-s"]
    lab.host("h1").exec([*whole, "8972"])
    assert "0 received" in lab.host("h1").exec([*whole, "8973"], check=False)


def test_two_labs_with_the_same_addresses_do_not_see_each_other(lab_up) -> None:
    one = lab_up(default_document(hosts=2), run_agents=False)
    two = lab_up(default_document(hosts=1), run_agents=False)
    assert one.host("h1").pings("192.168.31.63")
    assert not two.host("h1").pings("192.168.31.63", wait_s=0.3)


def test_the_machine_itself_has_no_link_more_than_before(lab_up) -> None:
    before = links_of_the_machine()
    lab = lab_up(default_document(hosts=3), run_agents=False)
    assert links_of_the_machine() == before
    lab.down()
    assert links_of_the_machine() == before


def test_down_leaves_nothing_and_may_be_repeated(lab_up) -> None:
    lab = lab_up(load_document("scene2-router"), run_agents=False)
    started = lab.host("h1").popen(["sleep", "1000"])
    wait_until(
        lambda: teardown.processes_in([lab.host("h1").namespace]), deadline_s=60, what="the process"
    )
    lab.down()
    assert leftovers(lab.name) == []
    assert started.wait(timeout=60) == -signal.SIGKILL
    lab.down()


def test_down_does_not_touch_a_lab_whose_name_begins_alike(lab_up, lab_names) -> None:
    name = next(lab_names)
    one = lab_up(default_document(hosts=1), run_agents=False, name=name)
    two = lab_up(default_document(hosts=1), run_agents=False, name=f"{name}-b")
    one.down()
    assert two.host("h1").pings("192.168.31.1")


def test_a_cut_cable_stops_traffic_and_a_healed_one_carries_it_again(lab_up) -> None:
    lab = lab_up(default_document(hosts=3), run_agents=False)
    one = lab.host("h1")
    for target in ("h2", "h2:ens33"):
        lab.fault(target, "cut")
        assert not one.pings("192.168.31.63", wait_s=0.3)
        assert one.pings("192.168.31.64")
        lab.fault(target, "heal")
        wait_until(lambda: one.pings("192.168.31.63"), deadline_s=60, what="h2 to be back")
    lab.fault("lan", "cut")
    assert not one.pings("192.168.31.64", wait_s=0.3)
    lab.fault("lan", "heal")
    wait_until(lambda: one.pings("192.168.31.64"), deadline_s=60, what="the segment to be back")


def test_a_store_taken_away_comes_back_with_what_was_in_it(lab_up) -> None:
    lab = lab_up(default_document(hosts=1), run_agents=False)
    before = lab.networks()
    lab.fault("store", "stop-store")
    lab.fault("store", "stop-store")
    with pytest.raises(NetloomError):
        lab.networks()
    lab.fault("store", "start-store")
    lab.fault("store", "start-store")
    assert lab.networks() == before != []


def test_a_name_that_is_taken_is_refused_and_the_lab_that_has_it_stands(lab_up) -> None:
    lab = lab_up(default_document(hosts=1), run_agents=False)
    with pytest.raises(Conflict) as caught:
        Lab.up(default_document(hosts=2), name=lab.name, run_agents=False)
    assert f"netloom lab down --name {lab.name}" in caught.value.hint
    assert lab.host("h1").pings("192.168.31.1")


def test_namespaces_whose_record_is_lost_are_refused_and_removed_by_name(lab_names) -> None:
    name = next(lab_names)
    namespaces.create(f"nl-{name}-h1")
    with pytest.raises(Conflict, match=f"nl-{name}-h1"):
        Lab.up(default_document(hosts=1), name=name, run_agents=False)
    assert leftovers(name) == []


def test_a_target_that_is_not_there_is_answered_with_the_nearest(lab_up) -> None:
    lab = lab_up(load_document("scene4"), run_agents=False)
    with pytest.raises(InvalidConfig) as caught:
        lab.host("nod1")
    assert caught.value.hint == "did you mean 'node1'?"
    with pytest.raises(InvalidConfig) as caught:
        lab.fault("node1", "cutt")
    assert caught.value.hint == "did you mean 'cut'?"
    with pytest.raises(InvalidConfig) as caught:
        lab.fault("node3", "cut")
    assert "node" in caught.value.hint
    with pytest.raises(InvalidConfig) as caught:
        Lab.open(lab.name + "x")
    assert caught.value.field == "name"


def test_a_builder_killed_at_any_moment_leaves_what_down_removes(lab_names) -> None:
    """A kill -9 after 0, 20, 40 … ms: whatever stands then is gone after `down`."""
    for delay_ms in range(0, 400, 40):
        name = next(lab_names)
        code = (
            "from netloom.lab.lab import Lab; from netloom.lab.documents import default_document;"
            "print(flush=True);"
            f"Lab.up(default_document(hosts=6), name={name!r}, run_agents=False);"
            "import time; time.sleep(100)"
        )
        builder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert builder.stdout is not None
        builder.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            builder.wait(timeout=delay_ms / 1000)
        builder.kill()
        builder.wait()
        builder.stdout.close()
        teardown.down(name)
        assert leftovers(name) == [], f"after {delay_ms} ms"


def test_a_sweep_takes_the_labs_of_dead_owners_and_no_other(lab_up, lab_names, own_lab_dir) -> None:
    """In a directory of its own: another run that begins now sweeps as well."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:  # it ends when we do
        owner = Process.of(child.pid)
        one, name = default_document(hosts=1), next(lab_names)
        dead = Lab.up(one, name=name, run_agents=False, owner=owner)
        alive = lab_up(default_document(hosts=1), run_agents=False)
        assert dead.name not in teardown.sweep()
    assert dead.name in teardown.sweep()
    assert leftovers(dead.name) == []
    assert alive.host("h1").pings("192.168.31.1")


def test_a_process_is_known_by_its_start_time_too() -> None:
    me = myself()
    assert me.alive
    assert not Process(me.pid, me.start + 1).alive
    Process(me.pid, me.start + 1).signal(signal.SIGKILL)  # hits nobody


@pytest.fixture
def own_lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NETLOOM_LAB_DIR", str(tmp_path / "labs"))
    yield tmp_path / "labs"
    for name in record.names():
        teardown.down(name)


def test_the_command_line_brings_a_lab_up_shows_it_and_takes_it_down(
    lab_names, own_lab_dir
) -> None:
    name = next(lab_names)
    up = netloom("lab", "up", "scene4", "--bare", "--name", name)
    assert up.returncode == 0, up.stderr
    assert f"nl-{name}-node1" in up.stdout
    listed = json.loads(netloom("lab", "list", "-o", "json").stdout)["labs"]
    assert [lab["name"] for lab in listed] == [name]
    assert listed[0]["hosts"][0]["interfaces"][0]["addresses"] == ["10.0.12.11/22"]
    down = netloom("lab", "down", "--all")
    assert (down.returncode, leftovers(name)) == (0, [])
    assert json.loads(netloom("lab", "list", "-o", "json").stdout) == {"labs": []}


def test_exec_passes_streams_and_exit_code_through(lab_names, own_lab_dir) -> None:
    name = next(lab_names)
    assert netloom("lab", "up", "--hosts", "1", "--bare", "--name", name).returncode == 0
    script = "cat; echo problem >&2; exit 42"
    done = netloom("lab", "exec", "--name", name, "h1", "--", "sh", "-c", script, input="stdin\n")
    assert (done.stdout, done.stderr, done.returncode) == ("stdin\n", "problem\n", 42)
    flags = netloom("lab", "exec", "--name", name, "h1", "--", "ip", "-4", "-j", "route")
    assert json.loads(flags.stdout)[0]["gateway"] == "192.168.31.1"
    cards = netloom("lab", "exec", "--lab", name, "h1", "--", "ls", "/sys/class/net")
    assert cards.stdout.split() == ["ens33", "lo"], "/sys must be the host's, not the machine's"
    known = netloom("lab", "exec", "--name", name, "h1", "--", "env")
    assert f"NETLOOM_SOCKET={own_lab_dir}/{name}/hosts/h1/run/agent.sock" in known.stdout
    missing = netloom("lab", "exec", "--name", name, "h1", "--", "no-such-command")
    assert (missing.returncode, "no-such-command" in missing.stderr) == (3, True)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["up", "--hosts", "0"], 3, "out of range"),
        (["up", "--backend", "vxlna"], 3, "did you mean 'vxlan'?"),
        (["up", "--preset", "flanel"], 3, "did you mean 'flannel'?"),
        (["up", "--pool", "10.244.0.1/16"], 3, "10.244.0.0/16"),
        (["up", "--name", "No/Name"], 3, "lower-case"),
        (["up", "scene2", "--hosts", "3"], 2, "FILE"),
        (["up", "nothere.yaml"], 3, "no such file"),
        (["down", "--name", "No/Name"], 3, "lower-case"),
        (["list", "--name", "nothere"], 3, "no lab called nothere"),
        (["exec", "--name", "nothere", "h1", "--", "true"], 3, "no lab called nothere"),
        (["run", "--name", "nothere", "h1", "web"], 3, "no lab called nothere"),
        (["fault", "--name", "nothere", "h1", "cut"], 3, "no lab called nothere"),
    ],
)
def test_bad_input_is_answered_with_one_sentence_and_a_remedy(
    args, code, said, own_lab_dir
) -> None:
    done = netloom("lab", *args)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert record.names() == []


@pytest.mark.usefixtures("nobody")
def test_without_root_one_sentence_says_what_to_do(own_lab_dir) -> None:
    done = netloom("lab", "up", user=65534)
    assert done.returncode == 5, done.stderr
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_network_that_cannot_stand_is_told_when_the_lab_is_up(
    lab_names: Iterator[str], tmp_path: Path
) -> None:
    name, file = next(lab_names), tmp_path / "lab.yaml"
    document = default_document(hosts=1)
    document["networks"][0]["pools"] = [{"cidr": "192.168.0.0/16", "blockSize": 24}]
    file.write_text(json.dumps(document))
    try:
        said = netloom("lab", "up", str(file), "--name", name)
        assert said.returncode == 6, said.stderr
        assert "h1: network default: pools[0].cidr: 192.168.0.0/16 collides" in said.stderr
        assert "remedy: choose a pool" in said.stderr
        assert name in said.stdout, "the lab stands, to be looked at"
    finally:
        teardown.down(name)
