"""The reconciler on an honest kernel: repairs, refusals and retries, reads, what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from tests.unit.reconcile.model_kernel import ModelKernel, ours
from tests.unit.views import card, iface, ip, net

from netloom.core.desired import Desired
from netloom.model.errors import Unavailable
from netloom.model.kernel import (
    KINDS,
    Address,
    Fdb,
    KernelObject,
    Link,
    Neighbour,
    Qdisc,
    Route,
    Sysctl,
    Vxlan,
    state_of,
)
from netloom.reconcile.contracts import Change, Outcome, Verb
from netloom.reconcile.loop import FIRST_RETRY_S, LAST_RETRY_S, Actual, Reconciler, Turn

MAC = "02:00:00:00:00:01"
TUNNEL = ours(
    Link(
        "flannel.1",
        "vxlan",
        mtu_bytes=1450,
        mac=MAC,
        vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.62")),
    )
)
ENTRY = [
    Neighbour("flannel.1", ip("10.244.2.0"), MAC),
    Fdb("flannel.1", MAC, ip("192.168.31.63")),
    Route(net("10.244.2.0/24"), "flannel.1", ip("10.244.2.0"), onlink=True),
]
ADDRESS = Address("flannel.1", iface("10.244.1.0/32"))
SIX = Address("flannel.1", iface("fd00::1/128"))
SETTING = Sysctl("ipv6/conf/flannel.1/accept_ra", "0")
DIRECT = Route(net("10.244.3.0/24"), "ens33", ip("192.168.31.64"))
PORT = ours(Link("veth1", "veth", mtu_bytes=1450, mac=MAC))
POLICE = Qdisc("veth1", "ingress", 8_000_000, 64_000)
ALL = [TUNNEL, SETTING, ADDRESS, SIX, *ENTRY, DIRECT]


@dataclass
class Host:
    """A kernel, a reconciler and a clock that stands still until it is moved."""

    kernel: ModelKernel
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(self.kernel, lambda: self.now_s)

    def step(self, *wanted: KernelObject, hold: bool = False) -> Turn:
        return self.reconciler.step(lambda _: Desired(state_of(*wanted), hold=hold))

    def looked(self, *wanted: KernelObject, kinds: Sequence[str] = KINDS) -> Turn:
        """Step after somebody said that ``kinds`` may have changed."""
        self.reconciler.mark(kinds)
        return self.step(*wanted)

    def has(self, *wanted: KernelObject) -> bool:
        for want in wanted:
            have = self.kernel.objects.get(want.key)
            if isinstance(want, Link) and isinstance(have, Link):
                have = replace(have, hairpin=want.hairpin)
            if have != want:
                return False
        return True


@pytest.fixture
def host() -> Host:
    return Host(ModelKernel(*card("ens33", "192.168.31.62/24")))


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{each.change.verb.value} {each.change.obj.key}" for each in outcomes]


def test_one_step_brings_everything_about_and_the_next_does_nothing(host):
    assert host.step(*ALL).changed
    assert host.has(*ALL)
    again = host.looked(*ALL)
    assert not again.changed
    assert not again.plan


def test_what_nobody_marked_is_not_read_again(host):
    host.step(*ALL)
    host.kernel.reads.clear()
    host.step(*ALL)
    assert host.kernel.reads == []
    host.looked(*ALL, kinds=["route"])
    assert host.kernel.reads == [frozenset({"route"})]


def test_the_desired_state_is_asked_for_with_what_is_in_the_kernel(host):
    seen: list[Actual] = []

    def make(actual: Actual) -> Desired:
        seen.append(actual)
        return Desired({})

    host.reconciler.step(make)
    assert set(seen[0]) == set(KINDS)
    assert "link ens33" in seen[0]["link"]


# --- repair


@pytest.mark.parametrize("lost", [ADDRESS, SIX, *ENTRY, DIRECT], ids=lambda obj: obj.key)
def test_what_another_hand_removes_comes_back_and_is_counted(host, lost):
    host.step(*ALL)
    host.kernel.take(lost.key)
    turn = host.looked(*ALL, kinds=[lost.kind_name])
    assert lines(turn.outcomes) == [f"add {lost.key}"]
    assert host.has(*ALL)
    assert turn.repaired == {lost.kind_name: 1}
    assert host.reconciler.repaired == {lost.kind_name: 1}


@pytest.mark.parametrize(
    "changed",
    [
        replace(TUNNEL, mtu_bytes=1280),
        replace(TUNNEL, mac="02:00:00:00:00:07"),
        replace(ENTRY[0], mac="02:00:00:00:00:07"),
        replace(ENTRY[1], remote=ip("192.168.31.7")),
        replace(ENTRY[2], gateway=ip("10.244.9.0")),
        replace(SETTING, value="1"),
    ],
    ids=lambda obj: obj.key,
)
def test_what_another_hand_changes_is_put_right_and_counted(host, changed):
    host.step(*ALL)
    if isinstance(changed, Link):
        host.kernel.objects[changed.key] = replace(
            changed, index=host.kernel.link("flannel.1").index
        )
    else:
        host.kernel.hand(changed)
    turn = host.looked(*ALL, kinds=[changed.kind_name])
    assert lines(turn.outcomes) == [f"replace {changed.key}"]
    assert host.has(*ALL)
    assert turn.repaired == {changed.kind_name: 1}


def test_a_deleted_link_comes_back_in_one_step_with_all_that_stood_on_it(host):
    """Somebody noticed the link alone: the kernel announces not every loss that follows."""
    host.step(*ALL)
    host.kernel.take(TUNNEL.key)
    turn = host.looked(*ALL, kinds=["link"])
    assert host.has(*ALL)
    assert turn.repaired == {
        "link": 1,
        "sysctl": 1,
        "address": 2,
        "neighbour": 1,
        "fdb": 1,
        "route": 1,
    }
    assert not host.looked(*ALL).plan


def test_a_link_set_down_comes_up_with_its_routes_in_one_step(host):
    host.step(*ALL)
    host.kernel.set_up("flannel.1", False)
    host.looked(*ALL, kinds=["link"])
    assert host.has(*ALL)
    assert not host.looked(*ALL).plan


def test_a_link_of_anothers_set_down_and_up_again_gets_its_routes_back(host):
    host.step(*ALL)
    host.kernel.set_up("ens33", False)
    turn = host.looked(*ALL, kinds=["link"])
    assert [str(o.error) for o in turn.outcomes if o.error]
    assert not host.has(DIRECT)
    host.kernel.set_up("ens33", True)
    host.looked(*ALL, kinds=["link"])
    assert host.has(*ALL), "at once, and not when the retry is due"


def test_a_link_made_anew_under_the_same_name_is_looked_at_as_a_whole(host):
    host.step(*ALL)
    host.looked(*ALL)
    host.kernel.hand(TUNNEL)
    host.looked(*ALL, kinds=["link"])
    assert host.has(*ALL)


def test_what_we_change_ourselves_is_no_repair(host):
    host.step(*ALL)
    moved = replace(TUNNEL, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.99")))
    turn = host.step(moved, *ALL[1:])
    assert host.has(moved, *ALL[1:])
    assert turn.repaired == {}
    assert not host.looked(moved, *ALL[1:]).plan


def test_a_restart_counts_no_repairs(host):
    host.step(*ALL)
    host.kernel.take(ENTRY[0].key)
    assert Host(host.kernel).step(*ALL).repaired == {}


def test_what_first_comes_about_after_a_refusal_is_no_repair(host):
    host.kernel.refused = {TUNNEL.key, DIRECT.key}
    host.step(*ALL)
    host.kernel.refused = set()
    host.now_s += LAST_RETRY_S
    turn = host.looked(*ALL)
    assert host.has(*ALL)
    assert turn.repaired == {}


def test_what_waited_for_anothers_link_to_go_is_no_repair(host):
    host.kernel.hand(Link("flannel.1", "dummy"))
    assert host.step(*ALL).plan.problems
    host.kernel.take("link flannel.1")
    turn = host.looked(*ALL)
    assert host.has(*ALL)
    assert turn.repaired == {}


# --- sweep


def test_what_is_no_longer_wanted_goes_and_takes_along_what_leaned_on_it(host):
    host.step(*ALL)
    turn = host.step(DIRECT)
    assert lines(turn.outcomes) == ["delete link flannel.1"]
    assert not host.step(DIRECT).plan, "nothing is believed to stand on what is gone"
    assert not host.looked(DIRECT).plan


@pytest.mark.parametrize("police_goes", [False, True], ids=["since 6.16", "before 6.16"])
@pytest.mark.parametrize(
    "taken",
    [[], [PORT.key], [PORT.key, POLICE.key]],
    ids=["both stand", "the link is gone", "both are gone"],
)
def test_what_polices_a_container_goes_in_the_same_step_as_its_link(host, police_goes, taken):
    """It may outlive the link: whoever waits for the step finds nothing of the container."""
    host.kernel.police_goes = police_goes
    host.step(PORT, POLICE)
    host.kernel.take(*taken)
    host.reconciler.mark(["link"] if taken else [])
    host.step()
    assert not {PORT.key, POLICE.key} & host.kernel.objects.keys()


@pytest.mark.parametrize("police_goes", [False, True], ids=["since 6.16", "before 6.16"])
def test_a_link_that_comes_again_is_policed_again(host, police_goes):
    host.kernel.police_goes = police_goes
    host.step(PORT, POLICE)
    host.kernel.take(PORT.key)
    host.looked(PORT, POLICE, kinds=["link"])
    assert host.has(PORT, POLICE)


def test_a_place_that_our_own_leftover_held_is_taken_in_the_same_step(host):
    """From bridge to routed: the bridge's connected route is in the blackhole's place."""
    bridge, gateway = ours(Link("cni0", "bridge")), Address("cni0", iface("10.244.1.1/24"))
    host.step(bridge, gateway)
    block = Route(net("10.244.1.0/24"), type="blackhole")
    host.step(block)
    assert host.has(block)
    assert not host.looked(block).plan


def test_a_link_that_comes_again_after_it_went_gets_everything_anew(host):
    host.step(*ALL)
    host.step(DIRECT)
    host.step(*ALL)
    assert host.has(*ALL)


def test_leftovers_of_an_earlier_run_are_swept_at_the_first_step(host):
    host.step(*ALL)
    Host(host.kernel).step()
    assert not any(host.has(obj) for obj in ALL)
    assert host.kernel.link("ens33")


def test_while_something_holds_nothing_is_swept(host):
    host.step(*ALL)
    assert not host.step(hold=True).changed
    assert host.has(*ALL)


# --- refusals


def test_a_refused_change_hinders_no_other(host):
    host.kernel.refused = {ENTRY[0].key}
    turn = host.step(*ALL)
    assert [o.change.obj for o in turn.outcomes if o.error] == [ENTRY[0]]
    assert host.has(*[obj for obj in ALL if obj != ENTRY[0]])
    assert list(host.reconciler.failing) == [ENTRY[0].key]


def test_a_link_whose_loss_nobody_noticed_is_found_by_what_is_refused_on_it(host):
    """Only the loss of a route was announced; the link comes back with the first retry."""
    host.step(*ALL)
    host.kernel.take(TUNNEL.key)
    refused = host.looked(*ALL, kinds=["route"])
    assert [o.change.obj for o in refused.outcomes if o.error] == [ENTRY[2]]
    host.now_s += host.reconciler.retry_in_s
    host.step(*ALL)
    assert host.has(*ALL)
    assert not host.reconciler.failing


def test_a_refused_change_is_tried_again_with_growing_pauses(host):
    host.kernel.refused = {DIRECT.key}
    pauses = []
    host.step(*ALL)
    for _ in range(12):
        pause_s = host.reconciler.retry_in_s
        pauses.append(pause_s)
        host.now_s += pause_s * 0.99
        assert not host.step(*ALL).changed, "not before it is due"
        host.now_s += pause_s * 0.02
        assert lines(host.step(*ALL).outcomes) == [f"add {DIRECT.key}"]
    assert pauses[0] == FIRST_RETRY_S
    assert pauses[1] == pytest.approx(2 * pauses[0])
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LAST_RETRY_S)


def test_a_change_that_succeeds_at_last_is_forgotten(host):
    host.kernel.refused = {DIRECT.key}
    host.step(*ALL)
    host.kernel.refused = set()
    host.now_s += LAST_RETRY_S
    host.step(*ALL)
    assert host.has(*ALL)
    assert host.reconciler.retry_in_s is None


def test_a_refused_change_that_nobody_wants_any_more_is_forgotten(host):
    host.kernel.refused = {DIRECT.key}
    host.step(*ALL)
    host.step(*ALL[:-1])
    assert host.reconciler.failing == {}
    assert host.reconciler.retry_in_s is None


def test_another_wish_for_the_same_place_is_tried_at_once(host):
    host.kernel.refused = {DIRECT.key}
    host.step(DIRECT)
    host.kernel.refused = set()
    other = replace(DIRECT, gateway=ip("192.168.31.65"))
    host.step(other)
    assert host.has(other)


def test_what_leans_on_a_refused_link_waits_and_is_no_failure_of_its_own(host):
    host.kernel.refused = {TUNNEL.key}
    host.step(*ALL)
    assert list(host.reconciler.failing) == [TUNNEL.key]
    host.kernel.applied.clear()
    host.looked(*ALL)
    assert host.kernel.applied == []
    host.now_s += FIRST_RETRY_S
    host.kernel.refused = set()
    host.step(*ALL)
    assert host.has(*ALL)
    assert host.reconciler.failing == {}


def test_waiting_for_a_refused_link_never_makes_the_loop_spin(host):
    host.kernel.refused = {ENTRY[0].key}
    host.step(*ALL)
    host.kernel.take(TUNNEL.key)
    host.kernel.refused = {TUNNEL.key}
    host.now_s += LAST_RETRY_S
    host.looked(*ALL)
    assert host.reconciler.retry_in_s == pytest.approx(FIRST_RETRY_S)


def test_a_refusal_that_is_due_while_its_link_waits_does_not_make_the_loop_spin(host):
    host.kernel.refused = {ENTRY[0].key}
    for now_s in (0.0, 0.11, 0.32):  # due again at 0.72
        host.now_s = now_s
        host.step(*ALL)
    host.now_s = 0.65
    host.kernel.refused = {ENTRY[0].key, TUNNEL.key}
    moved = replace(TUNNEL, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.99")))
    host.step(moved, *ALL[1:])
    host.now_s = 0.73
    host.step(moved, *ALL[1:])
    assert host.reconciler.retry_in_s > 0


def test_ports_that_lost_their_bridge_when_we_made_it_anew_join_it_in_the_same_step(host):
    bridge = ours(Link("cni0", "bridge"))
    port = ours(Link("veth1", "veth", master="cni0"))
    host.kernel.hand(replace(bridge, kind="bond"), port)
    host.step(bridge, port)
    assert host.kernel.link("cni0").kind == "bridge"
    assert host.kernel.link("veth1").master == "cni0"


def test_a_link_that_cannot_be_made_anew_leaves_what_stands_on_it_alone(host):
    host.step(*ALL)
    host.kernel.refused = {TUNNEL.key}
    moved = replace(TUNNEL, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.99")))
    host.step(moved, *ALL[1:])
    host.kernel.applied.clear()
    host.looked(moved, *ALL[1:])
    assert host.kernel.applied == []
    assert host.has(*ALL)


def test_a_refused_deletion_is_tried_again_too(host):
    host.step(*ALL)
    host.kernel.refused = {DIRECT.key}
    host.step(*ALL[:-1])
    assert list(host.reconciler.failing) == [DIRECT.key]
    host.kernel.refused = set()
    host.now_s += FIRST_RETRY_S
    host.step(*ALL[:-1])
    assert not host.has(DIRECT)


# --- reading


def test_a_kernel_that_cannot_be_read_is_read_again_next_time(host):
    host.step(*ALL)
    host.kernel.take(DIRECT.key)
    host.kernel.away = True
    with pytest.raises(Unavailable):
        host.looked(*ALL, kinds=["route"])
    host.kernel.away = False
    host.step(*ALL)
    assert host.has(*ALL)


class Breaking(ModelKernel):
    """A kernel whose writing ends in the middle, once."""

    broken = False

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if not self.broken:
            return super().apply(changes)
        self.broken = False
        super().apply(changes[:2])
        raise Unavailable("the socket is gone")


def test_after_a_write_that_ended_in_the_middle_everything_is_read_again():
    kernel = Breaking(*card("ens33", "192.168.31.62/24"))
    host = Host(kernel)
    kernel.broken = True
    with pytest.raises(Unavailable):
        host.step(*ALL)
    turn = host.step(*ALL)
    assert host.has(*ALL)
    assert not any(outcome.error for outcome in turn.outcomes), "nothing was added twice"


def test_settings_are_read_once_somebody_wants_them(host):
    host.kernel.hand(Sysctl("ipv4/ip_forward", "1"))
    turn = host.step(Sysctl("ipv4/ip_forward", "1"))
    assert not turn.changed, "it was right already"
    host.kernel.hand(Sysctl("ipv4/ip_forward", "0"))
    turn = host.looked(Sysctl("ipv4/ip_forward", "1"), kinds=["sysctl"])
    assert lines(turn.outcomes) == ["replace sysctl ipv4/ip_forward"]
    assert turn.repaired == {"sysctl": 1}


@pytest.mark.parametrize(
    ("kinds", "grown"), [(["link"], True), (["address"], True), (["route"], True), (["fdb"], False)]
)
def test_the_generation_grows_when_what_facts_depend_on_was_read(host, kinds, grown):
    host.step(*ALL)
    before = host.reconciler.generation
    host.looked(*ALL, kinds=kinds)
    assert (host.reconciler.generation > before) is grown


def test_of_several_routes_to_one_place_the_first_listed_counts(host):
    """`ip route append` puts a second one behind ours; the kernel goes on using ours."""
    host.step(*ALL)
    behind = replace(DIRECT, gateway=ip("192.168.31.1"), protocol=3)
    host.kernel.objects["a second route"] = behind
    turn = host.looked(*ALL)
    assert not turn.plan
    assert not turn.plan.problems


# --- looking without touching


def test_a_preview_changes_nothing_and_tells_what_a_step_would_do(host):
    want = Desired(state_of(*ALL))
    _, plan = host.reconciler.preview(lambda _: want)
    assert host.kernel.applied == []
    turn = host.step(*ALL)
    assert [o.change for o in turn.outcomes] == list(plan.changes)


def test_two_hands_that_fight_end_the_step_all_the_same():
    """Another hand sets the link down as often as we set it up: a step ends, the next goes on."""

    class Fighting(ModelKernel):
        def apply(self, changes: Sequence[Change]) -> list[Outcome]:
            done = super().apply(changes)
            self.set_up("flannel.1", False)
            return done

    host = Host(Fighting(*card("ens33", "192.168.31.62/24")))
    host.step(TUNNEL)
    turn = host.looked(TUNNEL)
    assert 0 < len(turn.outcomes) < 10
    assert {outcome.change.verb for outcome in turn.outcomes} == {Verb.REPLACE}


def test_the_first_error_of_making_the_desired_state_is_the_callers(host):
    def fail(_: Actual) -> Desired:
        raise ValueError("no view")

    make: Callable[[Actual], Desired] = fail
    with pytest.raises(ValueError, match="no view"):
        host.reconciler.step(make)
    assert host.step(*ALL).changed
