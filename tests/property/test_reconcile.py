"""The kernel's state depends on the last view alone: not on the path, nor on who meddled."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.reconcile.model_kernel import ModelKernel
from tests.unit.views import block, card, default_route, endpoint, facts, host, net, network, view

from netloom.core.desired import Memory, desired
from netloom.model.endpoint import Bandwidth, PortMapping
from netloom.model.errors import Conflict
from netloom.model.host import Block, Host
from netloom.model.kernel import KINDS, KernelObject, Link, Route, Sysctl
from netloom.model.view import HostFacts, View
from netloom.reconcile.delta import leans_on
from netloom.reconcile.loop import LAST_RETRY_S, Reconciler

#: Foreign things that no sequence may change: a card with its own way out, another's bridge,
#: another's vxlan device, another's routes.
FOREIGN: list[KernelObject] = [
    *card("ens33", "192.168.31.62/24", "192.168.31.99/24", "2001:db8::62/64"),
    *card("docker0", "172.17.0.1/16", index=3),
    Link("vxlan9", "vxlan", index=4),
    default_route("ens33", "192.168.31.1"),
    Route(net("172.30.0.0/16"), "docker0", protocol=3),
]

NETWORKS = {
    "blue": [
        network("blue", "10.244.0.0/16"),
        network("blue", "10.244.0.0/16", backend={"type": "vxlan", "vni": 1, "device": "tun0"}),
        network("blue", "10.244.0.0/16", backend={"type": "vxlan", "directRouting": True}),
        network("blue", "10.244.0.0/16", backend="host-gw", mtu=1400),
        network("blue", "10.244.0.0/16", "fd00:10::/48"),
        network("blue", "10.244.0.0/16", "fd00:10::/48", backend="host-gw"),
    ],
    "red": [
        network("red", "10.9.0.0/16", attachment="routed", backend={"type": "vxlan", "vni": 7}),
        network("red", "10.9.0.0/16", attachment="routed", backend="host-gw"),
        network("red", "10.9.0.0/16", attachment="routed", backend={"type": "vxlan", "vni": 8}),
        network(
            "red", "10.9.0.0/16", attachment={"type": "bridge", "bridge": "red0"}, backend="host-gw"
        ),
    ],
}
PEER_ADDRESSES = [("192.168.31.63",), ("10.77.0.3",), ("192.168.31.64", "2001:db8::64"), ()]
PEER_BLOCKS = {
    "h2": [block("10.244.2.0/24", "h2"), block("fd00:10:0:2::/64", "h2")],
    "h3": [block("10.244.3.0/24", "h3"), block("10.9.0.64/26", "h3", "red")],
    "h4": [block("10.244.4.0/24", "h4", confirmed=False), block("10.9.0.128/26", "h4", "red")],
}
OWN_BLOCKS = [
    block("10.244.1.0/24", "h1"),
    block("fd00:10:0:1::/64", "h1"),
    block("10.9.0.0/26", "h1", "red"),
]
ENDPOINTS = [
    endpoint("a", "10.244.1.5"),
    endpoint("b", "10.244.1.6", ports=(PortMapping(8080, 80),)),
    endpoint("c", "10.9.0.3", name="red", host_ifname="cali0"),
    endpoint("d", "10.9.0.4", name="red", host_ifname="cali1", bandwidth=Bandwidth(8_000_000)),
]
OWN_FACTS = [
    facts("192.168.31.62/24"),
    facts("192.168.31.99/24"),
    facts("192.168.31.62/24", mtu=1400),
    facts("192.168.31.62/24", "2001:db8::62/64"),
]


@st.composite
def views(draw: st.DrawFn) -> View:
    hosts: list[Host] = []
    blocks: list[Block] = list(OWN_BLOCKS)
    for host_id in draw(st.permutations(sorted(PEER_BLOCKS))):
        if draw(st.booleans()):
            mac = draw(st.sampled_from(["", f"02:00:00:00:00:a{host_id[1]}"]))
            macs = {"blue": mac} if mac else {}
            hosts.append(host(host_id, *draw(st.sampled_from(PEER_ADDRESSES)), macs=macs))
            blocks += draw(st.lists(st.sampled_from(PEER_BLOCKS[host_id]), unique=True))
    networks = [draw(st.sampled_from(kinds)) for kinds in NETWORKS.values()]
    present = draw(st.lists(st.sampled_from(ENDPOINTS), unique_by=lambda e: e.handle))
    own: HostFacts = draw(st.sampled_from(OWN_FACTS))
    return view(networks, hosts, blocks, own=own, endpoints=present)


DAMAGES = st.lists(
    st.tuples(st.sampled_from(["take", "down", "flap", "mtu", "stray"]), st.integers(min_value=0)),
    max_size=4,
)
Step = tuple[View, list[tuple[str, int]]]
STEPS = st.lists(st.tuples(views(), DAMAGES), max_size=4)


def damage(kernel: ModelKernel, kind: str, number: int) -> None:
    """Let another hand do something to one of our objects."""
    targets = [o for o in kernel.ours().values() if not isinstance(o, Sysctl)]
    links = [o for o in targets if isinstance(o, Link)]
    if not targets or (kind != "take" and not links):
        return
    link = links[number % len(links)] if links else None
    if kind == "take":
        kernel.take(targets[number % len(targets)].key)
    elif link and kind == "down":
        kernel.set_up(link.name, False)
    elif link and kind == "flap":
        kernel.set_up(link.name, False)
        kernel.set_up(link.name, True)
    elif link and kind == "mtu":
        kernel.objects[link.key] = type(link)(
            link.name,
            link.kind,
            link.alias,
            1280,
            link.mac,
            link.up,
            link.master,
            link.hairpin,
            link.vxlan,
            index=link.index,
        )
    elif link:
        kernel.hand(Route(net("10.200.0.0/16"), link.name))


def fresh() -> tuple[ModelKernel, Reconciler]:
    kernel = ModelKernel(*FOREIGN)
    return kernel, Reconciler(kernel, lambda: 0.0)


def bring(reconciler: Reconciler, wanted: View, memory: Memory | None) -> None:
    reconciler.step(lambda _: desired(wanted, memory))
    assert not reconciler.failing
    assert not reconciler.step(lambda _: desired(wanted, memory)).plan, "the second plan is empty"


def walk(steps: Sequence[Step], memory: Memory | None, last: View) -> ModelKernel:
    kernel, reconciler = fresh()
    for wanted, damages in steps:
        bring(reconciler, wanted, memory)
        for kind, number in damages:
            damage(kernel, kind, number)
        if damages:
            reconciler.mark(KINDS)
    bring(reconciler, last, memory)
    return kernel


def settled(kernel: ModelKernel, wanted: View) -> dict[str, KernelObject]:
    """Return what is ours without settings that nobody wants any more: those are never undone."""
    state = desired(wanted).state
    return {k: o for k, o in kernel.ours().items() if not isinstance(o, Sysctl) or k in state}


@settings(deadline=None)
@given(steps=STEPS, last=views())
def test_any_path_with_any_damage_ends_in_the_same_kernel(steps: list[Step], last: View) -> None:
    straight = walk([], None, last)
    crooked = walk(steps, Memory(), last)
    assert settled(crooked, last) == settled(straight, last)
    assert crooked.foreign() == straight.foreign() == ModelKernel(*FOREIGN).foreign()
    assert not crooked.trespasses


@settings(deadline=None)
@given(steps=STEPS, last=views())
def test_a_restarted_agent_finds_its_work_done(steps: list[Step], last: View) -> None:
    """A new reconciler knows nothing; what stands right is not written again."""
    kernel = walk(steps, Memory(), last)
    turn = Reconciler(kernel, lambda: 0.0).step(lambda _: desired(last))
    assert not turn.plan


@settings(deadline=None)
@given(seen=st.lists(views(), min_size=1, max_size=5))
def test_memory_saves_work_and_changes_nothing(seen: list[View]) -> None:
    memory = Memory()
    for wanted in seen:
        assert desired(wanted, memory) == desired(wanted)


@settings(deadline=None)
@given(wanted=views())
def test_the_order_in_which_the_store_told_things_does_not_matter(wanted: View) -> None:
    cluster = wanted.cluster
    turned = view(
        reversed(cluster.networks.values()),
        reversed(cluster.hosts.values()),
        reversed(cluster.blocks.values()),
        own=wanted.facts,
        endpoints=wanted.endpoints,
    )
    assert desired(turned) == desired(wanted)


@settings(deadline=None)
@given(wanted=views())
def test_every_desired_object_can_stand(wanted: View) -> None:
    """What is wanted on an empty host is there after one step, all of it and exactly so."""
    kernel, reconciler = fresh()
    bring(reconciler, wanted, None)
    state = desired(wanted).state
    for key, want in state.items():
        if isinstance(want, Link):
            assert key in kernel.objects
        else:
            assert kernel.objects[key] == want
    assert set(kernel.ours()) - set(state) == {
        key for key in kernel.ours() if key.startswith("sysctl ") and key not in state
    }


#: What another may have put where we want something: our bridge's and tunnel's names, a container's
#: end, a route to a peer's block and one to a container.
IN_OUR_PLACE: list[KernelObject] = [
    Link("cni0", "bridge", mtu_bytes=1400),
    Link("flannel.1", "dummy"),
    Link("vetha", "veth", up=False),
    Route(net("10.244.3.0/24"), "docker0", protocol=3),
    Route(net("10.9.0.3/32"), "docker0", protocol=186),
]


@settings(deadline=None)
@given(
    places=st.lists(st.sampled_from(IN_OUR_PLACE), unique_by=lambda obj: obj.key),
    seen=st.lists(views(), min_size=1, max_size=3),
)
def test_what_another_put_in_our_place_stays_and_once_it_goes_all_is_as_it_should_be(
    places: list[KernelObject], seen: list[View]
) -> None:
    kernel, reconciler = fresh()
    kernel.hand(*places)
    before = kernel.foreign()
    for wanted in seen:
        bring(reconciler, wanted, None)
        assert kernel.foreign() == before
        assert not kernel.trespasses
        ports = [
            o.name for o in kernel.ours().values() if isinstance(o, Link) and o.master == "cni0"
        ]
        assert not ports or "link cni0" not in before, "nothing of ours joins another's bridge"
    kernel.take(*(obj.key for obj in places))
    reconciler.mark(KINDS)
    bring(reconciler, seen[-1], None)
    assert settled(kernel, seen[-1]) == settled(walk([], None, seen[-1]), seen[-1])


@settings(deadline=None)
@given(data=st.data(), seen=st.lists(views(), min_size=1, max_size=3))
def test_whatever_the_kernel_refuses_for_a_while_all_is_well_in_the_end(
    data: st.DataObject, seen: list[View]
) -> None:
    """No refusal stops what does not lean on it, none is forgotten, none spins."""
    now_s = 0.0
    kernel = ModelKernel(*FOREIGN)
    reconciler = Reconciler(kernel, lambda: now_s)
    for wanted in seen:
        state = desired(wanted).state
        kernel.refused = set(data.draw(st.lists(st.sampled_from(sorted(state)))))
        turn = reconciler.step(lambda _, wanted=wanted: desired(wanted))
        for outcome in turn.outcomes:
            if outcome.error:
                key = outcome.change.obj.key
                ground = f"link {leans_on(outcome.change.obj)}"
                missing = ground not in kernel.objects
                assert key in kernel.refused or missing or isinstance(outcome.error, Conflict)
        assert not reconciler.failing or reconciler.retry_in_s > 0
        now_s += data.draw(st.floats(0, 40))
    kernel.refused = set()
    now_s += LAST_RETRY_S
    reconciler.step(lambda _: desired(seen[-1]))
    now_s += LAST_RETRY_S
    bring(reconciler, seen[-1], None)
    assert not reconciler.failing
    assert settled(kernel, seen[-1]) == settled(walk([], None, seen[-1]), seen[-1])
