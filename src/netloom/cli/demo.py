"""``netloom demo``: what Netloom does, shown on this machine in a lab, in well under two minutes.

Everything shown is real: hosts are network namespaces with agents in them, and each table, packet
and time is read from the kernel while you watch. ``lab/`` does the work, this module tells it.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from netloom.cli.lab import example

if TYPE_CHECKING:
    from types import FrameType

    from netloom.lab.host import LabContainer, LabHost
    from netloom.lab.lab import Lab
    from netloom.lab.repair import Damage

WIDTH = 92
TUNNEL = "flannel.1"
BRIDGE = "cni0"
HOSTS = 3
CONTAINERS = ("a", "b")
UNDERLAY_FRAMES = "udp port 8472"


@click.command(epilog=example("netloom demo", "netloom demo --keep     # and go on by hand"))
@click.option("--keep", is_flag=True, help="Leave the lab standing at the end.")
@click.option("--name", default="demo", show_default=True, help="The lab's name.")
@click.option("--no-color", is_flag=True, help="Plain text, as when stdout is no terminal.")
def demo(keep: bool, name: str, no_color: bool) -> None:
    """Show it all in a lab: traffic, tables, the wire, damage and its repair.

    Needs root, touches nothing of this machine's own network, leaves nothing behind.
    """
    from netloom.lab import teardown
    from netloom.lab.documents import default_document
    from netloom.lab.lab import Lab, require_rights
    from netloom.lab.processes import myself

    require_rights()
    teardown.sweep()
    story = Story(live=sys.stdout.isatty() and not no_color, coloured=not no_color)
    story.say(click.style("Netloom", bold=True) + ": three hosts on this machine, nothing faked.")
    with _terminable():
        story.step("Three hosts, an agent on each")
        lab = Lab.up(default_document(HOSTS), name=name, owner=myself(), progress=story.note)
        try:
            _tell(story, lab)
            if keep:
                lab.disown()
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                lab.down()
    _farewell(story, lab, keep=keep)


@dataclass
class Story:
    """Prints: steps, notes, commands with their output. ``live`` may redraw what it has printed."""

    live: bool
    coloured: bool
    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    shown: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Print one line."""
        click.echo(text, color=None if self.coloured else False)

    def step(self, title: str) -> None:
        """Begin a step."""
        self.steps += 1
        passed = f"{time.monotonic() - self.began:.1f} s"
        rule = "─" * (WIDTH - len(title) - len(passed) - 6)
        self.say()
        head = click.style(f"{self.steps}  {title}", bold=True, fg="cyan")
        self.say(f"{head} {click.style(f'{rule} {passed}', dim=True)}")

    def note(self, text: str) -> None:
        """Print an explanation below what it explains."""
        for number, line in enumerate(textwrap.wrap(text, WIDTH - 5)):
            self.say("   " + click.style(("→ " if number == 0 else "  ") + line, dim=True))

    def shell(self, place: LabHost | LabContainer, command: str) -> str:
        """Run a command as a person would, show it and what it prints; return the output."""
        prompt = click.style(f"{place.name}$", fg="green")
        self.say(f"   {prompt} {click.style(command, bold=True)}")
        output = place.exec(command.split())
        for line in output.splitlines():
            self.say(f"   {line.rstrip()}")
        return output

    def learned(self, text: str) -> None:
        """Remember a line for the summary."""
        self.shown.append(text)


def _tell(story: Story, lab: Lab) -> None:
    one = lab.hosts[0]
    containers = _start_containers(story, lab)
    _show_matrix(story, containers)
    _show_tables(story, one, containers[0])
    _show_wire(story, one, containers)
    _show_damage(story, one, containers)
    _show_agent_away(story, one, containers)


def _start_containers(story: Story, lab: Lab) -> list[LabContainer]:
    story.step("Two containers on each host, attached through CNI")
    containers = []
    began = time.monotonic()
    for host in lab.hosts:
        made = [host.run(name) for name in CONTAINERS]
        containers += made
        block = ", ".join(host.blocks())
        names = "   ".join(f"{one.name} {click.style(one.address, fg='yellow')}" for one in made)
        underlay = click.style(host.underlay, fg="blue")
        story.say(f"   {host.name}  {underlay}   block {block:15}  {names}")
    took = time.monotonic() - began
    story.note(
        f"each host claimed a block of its own for all its containers; {len(containers)} "
        f"containers took {took:.1f} s"
    )
    story.learned(f"{len(lab.hosts)} hosts, {len(containers)} containers, one block per host")
    return containers


def _show_matrix(story: Story, containers: Sequence[LabContainer]) -> None:
    from netloom.lab.matrix import answers

    story.step("Who reaches whom: every container pings every other")
    cells: dict[tuple[str, str], float | None] = {}
    names = [container.name for container in containers]
    drawn = _matrix(names, cells)
    if story.live:
        story.say("\n".join(drawn))
    for answer in answers(containers):
        cells[answer.source, answer.target] = answer.rtt_ms
        if story.live:
            click.echo(f"\033[{len(drawn)}A", nl=False)
            story.say("\n".join(_matrix(names, cells)))
    if not story.live:
        story.say("\n".join(_matrix(names, cells)))
    well = sum(rtt is not None for rtt in cells.values())
    story.note(f"milliseconds there and back; {well} of {len(cells)} pings came back")
    story.learned(f"{well} of {len(cells)} pairs of containers reach each other")


def _matrix(names: Sequence[str], cells: dict[tuple[str, str], float | None]) -> list[str]:
    head = click.style(
        f"   {'from ↓  to →':12}" + "".join(f"{name:>8}" for name in names), dim=True
    )
    lines = [head]
    for source in names:
        row = f"   {source:12}"
        for target in names:
            if source == target:
                row += click.style(f"{'·':>8}", dim=True)
            elif (source, target) not in cells:
                row += click.style(f"{'…':>8}", dim=True)
            elif (rtt := cells[source, target]) is None:
                row += click.style(f"{'lost':>8}", fg="red")
            else:
                row += click.style(f"{rtt:8.2f}", fg="green")
        lines.append(row)
    return lines


def _show_tables(story: Story, host: LabHost, container: LabContainer) -> None:
    story.step(f"What the agent wrote into the kernel of {host.name}")
    story.shell(host, "ip route")
    story.note(
        "a route to each other host's block through the tunnel; `onlink`, as its gateway lies in "
        "no subnet of this host; `proto 78` is Netloom's mark: other routes are left alone"
    )
    story.shell(host, f"ip neigh show dev {TUNNEL}")
    story.note("the MAC of each such gateway: PERMANENT, so that nobody ever has to ask for it")
    story.shell(host, f"bridge fdb show dev {TUNNEL}")
    story.note("and the host to which frames for that MAC are sent")
    story.shell(container, "ip route")
    story.note(f"inside {container.name}: everything by way of the bridge cni0 of its host")
    story.learned("the tables of the tutorials: routes, neighbours, FDB, and a container's own")


def _show_wire(story: Story, host: LabHost, containers: Sequence[LabContainer]) -> None:
    from netloom.lab.wire import Capture

    near, neighbour, far = containers[0], containers[1], containers[len(CONTAINERS)]
    card = host.node.interfaces[0].name
    story.step(f"The wire: tcpdump on {host.name}'s {card}")
    with Capture(host, card, UNDERLAY_FRAMES) as wire:
        near.pings(neighbour.address)
        near.pings(far.address)
        wire.until(lambda seen: len(seen) >= 2, "request and reply on the wire")
        frames = wire.frames
    for frame in frames[:2]:
        if frame.inner:
            outer = click.style(f"{frame.source} → {frame.destination}", fg="blue")
            inner = click.style(f"{frame.inner.source} → {frame.inner.destination}", fg="yellow")
            story.say(f"   {outer}  UDP {frame.ports[1]}, VXLAN VNI {frame.vni}")
            story.say(f"   └─ {inner}  {frame.inner.what}, ttl {frame.inner.ttl}")
    story.note(f"{near.name} pings {far.name}: the container's packet travels inside the hosts'")
    strays = [frame for frame in frames if neighbour.address in str(frame)]
    story.note(
        f"{near.name} had pinged {neighbour.name} before: {len(strays)} frames of that on the "
        "wire, since the bridge of their host does it alone"
    )
    story.learned("both layers of a packet on the wire, and none for neighbours on one host")


def _show_damage(story: Story, host: LabHost, containers: Sequence[LabContainer]) -> None:
    from netloom.lab.repair import time_repair
    from netloom.lab.traffic import Pings
    from netloom.lab.waiting import wait_until

    story.step(f"Damage by hand on {host.name}, mended by its agent")
    before = _tables(host)
    times = []
    with Pings(containers[0], containers[len(CONTAINERS)].address) as pings:
        for damage in _damages(host):
            took = time_repair(host, damage)
            wait_until(
                lambda: _tables(host) == before, deadline_s=20, what="all tables as they were"
            )
            times.append(took)
            command = " ".join(damage.command)
            prompt = click.style(f"{host.name}$", fg="green")
            mended = click.style(f"✓ {took * 1000:5.0f} ms", fg="green")
            story.say(f"   {prompt} {click.style(f'{command:{WIDTH - 17}}', bold=True)} {mended}")
    story.note(
        "from the start of the command to the kernel's notice of the repair; each time all of "
        "the tables and the firewall were compared afterwards, and are as before"
    )
    story.note(
        f"a ping every 10 ms between {containers[0].name} and {containers[len(CONTAINERS)].name} "
        f"ran all the while: {pings.sent} sent, {pings.lost} lost"
    )
    slowest = max(times) * 1000
    story.learned(f"{len(times)} kinds of damage, each mended; the slowest took {slowest:.0f} ms")


def _damages(host: LabHost) -> Iterator[Damage]:
    """Return damage to each kind of object, aimed at what is there."""
    from netloom.lab.repair import Damage

    def act(command: str, monitor: str, gone: str, back: str, times: int = 1) -> Damage:
        return Damage(tuple(command.split()), tuple(monitor.split()), gone, back, times)

    routes = host.json(["ip", "-j", "route", "show", "dev", TUNNEL])
    block, via = routes[0]["dst"], routes[0]["gateway"]
    quoted = block.replace(".", r"\.")
    yield act(
        f"ip route del {block}", "ip monitor route", rf"^Deleted {quoted} ", rf"^{quoted} via"
    )
    yield act(
        f"ip neigh del {via} dev {TUNNEL}",
        "ip monitor neigh",
        rf"^Deleted {via} dev {TUNNEL}",
        rf"^{via} dev {TUNNEL} lladdr .* PERMANENT",
    )
    entry = host.exec(["bridge", "fdb", "show", "dev", TUNNEL]).splitlines()[0].split()
    mac = entry[0]
    yield act(
        f"bridge fdb del {mac} dev {TUNNEL}",
        "bridge monitor fdb",
        rf"^Deleted {mac} ",
        rf"^{mac} dev {TUNNEL} dst",
    )
    port = host.json(["ip", "-j", "link", "show", "master", BRIDGE])[0]["ifname"]
    yield act(
        f"ip link set {port} nomaster",
        "ip monitor link",
        rf"^Deleted .*{port}.*master",
        rf" {port}@.* master {BRIDGE} ",
    )
    address = host.json(["ip", "-j", "-4", "address", "show", "dev", BRIDGE])[0]["addr_info"][0]
    cidr = f"{address['local']}/{address['prefixlen']}"
    yield act(
        f"ip address del {cidr} dev {BRIDGE}",
        "ip monitor address",
        rf"^Deleted .*{BRIDGE} .*inet {cidr} ",
        rf"^[0-9]+: {BRIDGE} .*inet {cidr} ",
    )
    route_back = rf"^[0-9./]+ via [0-9.]+ dev {TUNNEL}"
    deleted = rf"^Deleted .*{TUNNEL}"
    yield act(f"ip link del {TUNNEL}", "ip monitor link route", deleted, route_back, len(routes))
    yield act("nft flush ruleset", "nft monitor", "new generation", "new generation")


def _tables(host: LabHost) -> list[str]:
    """Return all that damage and repair are compared by, sorted, as a new link has a new number."""
    commands = (
        "ip -br -4 address",
        f"ip -br link show master {BRIDGE}",
        "ip route",
        "ip neigh show nud permanent",
        f"bridge fdb show dev {TUNNEL}",
    )
    lines = [
        f"{command}: {line}"
        for command in commands
        for line in host.exec(command.split(), check=False).splitlines()
    ]
    return [*sorted(lines), host.exec(["nft", "-s", "list", "ruleset"])]


def _show_agent_away(story: Story, host: LabHost, containers: Sequence[LabContainer]) -> None:
    from netloom.lab import faults
    from netloom.lab.traffic import Pings
    from netloom.lab.waiting import wait_until

    story.step(f"kill -9 the agent of {host.name}: containers keep talking")
    home = host.home
    with Pings(containers[0], containers[len(CONTAINERS)].address) as pings:
        faults.kill_agent(home)
        seen = pings.received
        wait_until(lambda: pings.received > seen + 50, deadline_s=20, what="50 more replies")
        away = pings.received - seen
        host.start_agent()
    story.say(f"   {away} pings came back while there was no agent; then it was started again")
    lost = click.style(f"{pings.lost} lost", fg="green" if pings.lost == 0 else "red")
    story.say(f"   {pings.sent} pings in all, {lost}")
    story.note("the data path is the kernel's; an agent that starts takes over what is right")
    story.learned(f"an agent killed and started again: {pings.lost} of {pings.sent} pings lost")


def _farewell(story: Story, lab: Lab, *, keep: bool) -> None:
    story.step("What you saw")
    for line in story.shown:
        story.say(f"   {click.style('✓', fg='green')} {line}")
    story.say()
    flag = f" --name {lab.name}"
    commands = [
        f"netloom lab exec{flag} h1 -- netloom status",
        f"netloom lab exec{flag} h1/a -- ping -c3 <an address above>",
        f"netloom lab fault{flag} h2 cut          # and heal",
        f"netloom lab fault{flag} store stop-store   # and start-store",
        f"netloom lab down{flag}",
    ]
    if keep:
        story.say(f"   The lab {lab.name} stands. Go on by hand:")
    else:
        story.say("   The lab is gone, and nothing of it is left. To go on by hand:")
        commands.insert(0, "netloom demo --keep")
    for command in commands:
        story.say(f"     {click.style(command, bold=True)}")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into what Ctrl-C is, so that the lab is taken down on the way."""

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
