"""The laboratory with agents: containers as users make, use and remove them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.kernel import namespaces
from netloom.lab import record, teardown
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.processes import Process, myself
from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, InvalidConfig, NetloomError


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Two hosts; each test makes containers of its own names."""
    with Lab.up(default_document(hosts=2), name=next(lab_names), owner=myself()) as made:
        yield made


def netloom(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netloom", "lab", args[0], "--name", lab.name, *args[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_container_is_run_shown_used_and_removed(lab: Lab) -> None:
    made = netloom(lab, "run", "h1", "first", "-o", "json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    address = document["addresses"][0].partition("/")[0]
    shown = json.loads(netloom(lab, "list", "-o", "json").stdout)["labs"][0]["hosts"][0]
    (container,) = [c for c in shown["containers"] if c["name"] == "first"]
    assert container["addresses"] == document["addresses"]
    assert shown["agent"]["ready"]
    assert netloom(lab, "exec", "h2", "--", "ping", "-c1", "-W5", address).returncode == 0
    inside = netloom(lab, "exec", "h1/first", "--", "ip", "-br", "address")
    assert address in inside.stdout
    assert netloom(lab, "rm", "h1", "first").returncode == 0
    assert document["namespace"] not in namespaces.names("nl-")
    assert "first" not in netloom(lab, "list").stdout
    assert lab.host("h1").status()["endpoints"] == len(lab.host("h1").containers())


def test_the_address_that_is_asked_for_is_given_and_a_taken_one_is_refused(lab: Lab) -> None:
    block = lab.host("h1").blocks()[0]
    wanted = block.replace(".0/24", ".77")
    assert lab.host("h1").run("asked", ips=[wanted]).address == wanted
    with pytest.raises(NetloomError, match=wanted):
        lab.host("h1").run("second", ips=[wanted])
    assert [c.name for c in lab.host("h1").containers() if "second" in c.name] == []
    assert not [name for name in namespaces.names("nl-") if name.endswith("second")]


def test_an_address_outside_the_network_is_refused_and_nothing_remains(lab: Lab) -> None:
    done = netloom(lab, "run", "h1", "outside", "--ip", "192.168.99.9")
    assert done.returncode in (3, 4)
    assert "192.168.99.9" in done.stderr
    assert "Traceback" not in done.stderr
    assert "outside" not in netloom(lab, "list").stdout


def test_a_name_that_is_taken_is_refused_and_the_container_that_has_it_stays(lab: Lab) -> None:
    first = lab.host("h2").run("taken")
    with pytest.raises(Conflict) as caught:
        lab.host("h2").run("taken")
    assert "netloom lab rm h2 taken" in caught.value.hint
    assert lab.host("h1").pings(first.address)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "h9", "x"], "did you mean"),
        (["run", "h1", "Bad/Name"], "lower-case"),
        (["run", "h1", "x", "-p", "80"], "HOSTPORT:CONTAINERPORT"),
        (["run", "h1", "x", "-p", "0:80"], "out of range"),
        (["run", "h1", "x", "--ip", "nonsense"], "not an IP address"),
        (["run", "h1", "x", "--network", "nosuch"], "nosuch"),
        (["rm", "h1", "nosuch"], "no container called 'nosuch'"),
        (["exec", "h1/nosuch", "--", "true"], "no container called 'nosuch'"),
    ],
)
def test_bad_input_makes_nothing_and_says_what_is_wrong(lab: Lab, args, said) -> None:
    before = namespaces.names(f"nl-{lab.name}-")
    done = netloom(lab, *args)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert namespaces.names(f"nl-{lab.name}-") == before


def test_a_command_runs_inside_and_its_published_port_is_reached_from_another_host(
    lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("hello from inside\n")
    serve = ["python3", "-m", "http.server", "80", "--directory", str(tmp_path)]
    web = lab.host("h1").run("web", ports=["8080:80"], command=serve)
    assert web.known.process is not None
    assert web.known.process.alive
    get = ["python3", "-c", "import urllib.request as u, sys; print(u.urlopen(sys.argv[1]).read())"]
    url = f"http://{lab.host('h1').underlay}:8080/"
    wait_until(
        lambda: "hello from inside" in lab.host("h2").exec([*get, url], check=False),
        deadline_s=60,
        what="the page",
    )
    lab.host("h1").remove("web")
    wait_until(lambda: not web.known.process.alive, deadline_s=60, what="the server to end")


def test_without_its_agent_a_host_refuses_and_leaves_nothing_of_the_container(lab_up) -> None:
    lab = lab_up(default_document(hosts=1))
    one = lab.host("h1")
    stays = one.run("stays")
    lab.fault("h1", "kill-agent")
    before = namespaces.names(f"nl-{lab.name}-")
    with pytest.raises(NetloomError):
        one.run("late")
    assert namespaces.names(f"nl-{lab.name}-") == before
    with pytest.raises(NetloomError):
        one.remove("stays")
    assert one.container("stays").address == stays.address
    lab.fault("h1", "start-agent")
    one.remove("stays")
    assert one.containers() == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--preset", "flannel"],
        ["--preset", "calico"],
        ["--backend", "host-gw", "--attach", "routed"],
        ["--pool", "10.99.0.0/16", "--block-size", "28"],
    ],
    ids=" ".join,
)
def test_containers_talk_whatever_the_flags_choose(lab_names, flags) -> None:
    name = next(lab_names)
    command = [sys.executable, "-m", "netloom", "lab", "up", "--hosts", "2", "--name", name]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Lab.open(name) as lab:
        one, two = (host.run("a") for host in lab.hosts)
        lab.settle()
        # The preset calico routes by BGP: a route is there when the other host has told of it.
        wait_until(lambda: one.pings(two.address), deadline_s=60, what="an answer")
        assert two.pings(one.address)


def test_a_topology_may_bring_containers_along(lab_up) -> None:
    document = default_document(hosts=2)
    document["containers"] = [
        {"host": "h1", "name": "one"},
        {"host": "h2", "name": "two", "command": ["sleep", "1000"]},
    ]
    lab = lab_up(document)
    two = lab.host("h2").container("two")
    assert lab.host("h1").container("one").pings(two.address)
    process = two.known.process
    assert process is not None
    lab.down()
    assert Process.of(process.pid) != process


def test_a_lab_whose_agents_cannot_start_leaves_nothing_and_shows_their_last_words(
    lab_names,
) -> None:
    name = next(lab_names)
    document = default_document(hosts=2)
    document["hosts"][1]["agent"] = {"logLevle": "debug"}
    with pytest.raises(NetloomError) as caught:
        Lab.up(document, name=name)
    assert "h2" in str(caught.value)
    assert "logLevel" in caught.value.hint
    assert teardown.namespaces_of(name) == []
    assert not record.directory(name).exists()


def test_a_lab_is_taken_down_with_agents_frozen_or_killed(lab_up) -> None:
    lab = lab_up(default_document(hosts=2))
    agents = [host.agent for host in lab.hosts]
    lab.fault("h1", "freeze-agent")
    lab.fault("h2", "kill-agent")
    lab.down()
    assert not any(agent.alive for agent in agents if agent)
    assert teardown.namespaces_of(lab.name) == []


def test_an_agent_that_runs_is_not_started_twice(lab: Lab) -> None:
    with pytest.raises(Conflict, match="runs already"):
        lab.host("h1").start_agent()
    with pytest.raises(InvalidConfig, match="store"):
        lab.fault("h1", "stop-store")


def test_an_agent_started_without_a_store_runs_and_the_lab_says_why_it_is_not_ready(
    lab_up,
) -> None:
    """Containers go on talking meanwhile, and it is ready once the store is back."""
    lab = lab_up(default_document(hosts=2))
    one, two = (host.run("a") for host in lab.hosts)
    lab.fault("store", "stop-store")
    remark = lab.fault("h1", "restart-agent")
    assert lab.host("h1").agent is not None
    assert lab.host("h1").status()["ready"] or "the store is away" in remark
    assert one.pings(two.address)
    lab.fault("store", "start-store")
    wait_until(lambda: lab.host("h1").status()["ready"], deadline_s=60, what="h1 to be ready")
    assert lab.host("h1").run("late").pings(two.address)
