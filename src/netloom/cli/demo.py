"""``netloom demo``: what Netloom does, shown on this machine in a lab, in well under two minutes.

Everything shown is real: hosts are network namespaces with agents in them, and each table, packet
and time is read from the kernel while you watch. ``lab/`` does the work, this module tells it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from netloom.cli.lab import terminable
from netloom.cli.options import example
from netloom.cli.story import WIDTH, Story

if TYPE_CHECKING:
    from netloom.lab.host import LabContainer, LabHost
    from netloom.lab.lab import Lab

TUNNEL = "flannel.1"
HOSTS = 3
CONTAINERS = ("a", "b")
UNDERLAY_FRAMES = "udp port 8472"


@click.command(epilog=example("netloom demo", "netloom demo --keep     # and go on by hand"))
@click.option("--keep", is_flag=True, help="Leave the lab standing at the end.")
@click.option("--name", default="demo", show_default=True, help="The lab's name.")
@click.option("--pause", is_flag=True, help="Wait for a key before each step.")
@click.option("--no-color", is_flag=True, help="Plain text, as when stdout is no terminal.")
def demo(*, keep: bool, name: str, pause: bool, no_color: bool) -> None:
    """Show it all in a lab: traffic, tables, the wire, damage and its repair.

    Needs root, touches nothing of this machine's own network, leaves nothing behind.
    """
    from netloom.lab import teardown
    from netloom.lab.documents import default_document
    from netloom.lab.lab import Lab, require_rights
    from netloom.lab.processes import myself

    require_rights()
    teardown.sweep()
    live = sys.stdout.isatty() and not no_color
    story = Story(live=live, coloured=not no_color, pause=pause)
    story.say(click.style("Netloom", bold=True) + ": three hosts on this machine, nothing faked.")
    with terminable():
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


def _tell(story: Story, lab: Lab) -> None:
    one = lab.hosts[0]
    _draw(story, lab)
    containers = _start_containers(story, lab)
    _show_matrix(story, containers)
    _show_tables(story, one, containers[0])
    _show_wire(story, one, containers)
    _show_damage(story, one, containers)
    _show_agent_away(story, one, containers)


def _draw(story: Story, lab: Lab) -> None:
    """Draw the hosts and what joins them."""
    segment = lab.topology.segments[0]
    names = [f"{host.name} {host.node.interfaces[0].name}" for host in lab.hosts]
    underlays = [host.underlay for host in lab.hosts]
    room = max(map(len, underlays)) + 2
    left, right = "─" * (room // 2), "─" * (room - room // 2 - 1)

    def row(cells: Sequence[str]) -> None:
        story.say("   " + "   ".join(cells))

    row([f"┌{'─' * room}┐" for _ in names])
    row([f"│{click.style(f'{name:^{room}}', bold=True)}│" for name in names])
    row([f"│{click.style(f'{underlay:^{room}}', fg='blue')}│" for underlay in underlays])
    row([f"└{left}┬{right}┘" for _ in names])
    gateway = ", ".join(map(str, segment.gateways))
    wire = "───".join(f"─{left}┴{right}─" for _ in names)
    story.say(f"   {wire}── {segment.subnets[0]}, gateway {gateway}")


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
    story.far = containers[len(CONTAINERS)].address
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
    from netloom.lab.damage import damages, tables
    from netloom.lab.repair import time_repair
    from netloom.lab.traffic import Pings
    from netloom.lab.waiting import wait_until

    story.step(f"Damage by hand on {host.name}, mended by its agent")
    before = tables(host)
    times = []
    with Pings(containers[0], containers[len(CONTAINERS)].address) as pings:
        for damage in damages(host):
            took = time_repair(host, damage)
            wait_until(
                lambda: tables(host) == before, deadline_s=60, what="all tables as they were"
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
    story.shell(host, "netloom status")
    story.note("what the agent itself says of it, on one screen")
    slowest = max(times) * 1000
    story.learned(f"{len(times)} kinds of damage, each mended; the slowest took {slowest:.0f} ms")


def _show_agent_away(story: Story, host: LabHost, containers: Sequence[LabContainer]) -> None:
    from netloom.lab import faults
    from netloom.lab.traffic import Pings
    from netloom.lab.waiting import wait_until

    story.step(f"kill -9 the agent of {host.name}: containers keep talking")
    home = host.home
    with Pings(containers[0], containers[len(CONTAINERS)].address) as pings:
        faults.kill_agent(home)
        seen = pings.received
        wait_until(lambda: pings.received > seen + 50, deadline_s=60, what="50 more replies")
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
        f"netloom lab exec{flag} h1/a -- ping -c3 {story.far}",
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
