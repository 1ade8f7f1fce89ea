"""The ways to peers are kept from view to view: nobody can tell by the result.

Views follow each other as the store makes them: most values are the same objects as before.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_reconcile import FOREIGN, NETWORKS, OWN_BLOCKS, OWN_FACTS, settled, walk
from tests.unit.reconcile.model_kernel import ModelKernel
from tests.unit.views import block, endpoint, facts, host, view

from netloom.core.desired import Memory, desired
from netloom.model.view import View
from netloom.reconcile.loop import LAST_RETRY_S, Reconciler

#: One tunnel end for two hosts, and hosts that come back another: places that two ways want.
CLONED = {"blue": "02:00:00:00:00:aa"}
HOSTS = {
    name: [
        host(name, f"192.168.31.{number}", macs=CLONED),
        host(name, f"192.168.31.{number}"),
        host(name, f"10.77.0.{number}"),
        host(name),
    ]
    for number, name in enumerate(("h2", "h3", "h4"), start=62)
}
BLOCKS = [
    [block(cidr, name, of) for name in HOSTS]
    for cidr, of in (
        ("10.244.2.0/24", "blue"),
        ("10.244.3.0/24", "blue"),
        ("fd00:10:0:2::/64", "blue"),
        ("10.9.0.64/26", "red"),
        ("10.99.0.0/24", "gone"),
    )
]
PENDING = block("10.244.2.0/24", "h2", confirmed=False)
#: From here some peers are reached over another card.
FACTS = [*OWN_FACTS, facts("192.168.31.62/24", routes=[("10.77.0.0/16", "ens34")])]
ENDPOINTS = [endpoint("a", "10.244.1.5"), endpoint("c", "10.9.0.3", name="red", host_ifname="c0")]


@st.composite
def views(draw: st.DrawFn) -> View:
    networks = [draw(st.sampled_from(kinds)) for kinds in NETWORKS.values()]
    hosts = [draw(st.sampled_from([None, *kinds])) for kinds in HOSTS.values()]
    blocks = [draw(st.sampled_from([None, PENDING, *holders])) for holders in BLOCKS]
    present = draw(st.permutations([*OWN_BLOCKS, *(each for each in blocks if each)]))
    return view(
        networks[: draw(st.integers(1, 2))],
        draw(st.permutations([each for each in hosts if each])),
        {each.cidr: each for each in present}.values(),
        own=draw(st.sampled_from(FACTS)),
        endpoints=draw(st.lists(st.sampled_from(ENDPOINTS), unique_by=lambda e: e.handle)),
    )


@settings(deadline=None)
@given(seen=st.lists(views(), min_size=1, max_size=6))
def test_whatever_was_seen_before_the_result_is_that_of_a_first_look(seen: list[View]) -> None:
    memory = Memory()
    for wanted in seen:
        found, first = desired(wanted, memory), desired(wanted)
        assert found == first
        assert found.paths == first.paths


@settings(deadline=None)
@given(seen=st.lists(views(), min_size=1, max_size=6))
def test_what_was_handed_out_does_not_change_any_more(seen: list[View]) -> None:
    memory = Memory()
    found = [desired(wanted, memory) for wanted in seen]
    assert found == [desired(wanted) for wanted in seen]


@settings(deadline=None)
@given(seen=st.lists(views(), min_size=1, max_size=6))
def test_a_turn_that_compares_only_what_changed_leaves_nothing_else_wrong(seen: list[View]) -> None:
    """After each turn another that reads and compares everything finds nothing to do."""
    kernel, memory, now_s = ModelKernel(*FOREIGN), Memory(), 0.0
    reconciler = Reconciler(kernel, lambda: now_s)
    for wanted in seen:
        now_s += LAST_RETRY_S  # what could not stand beside what was held back may do so now
        turn = reconciler.step(lambda _, wanted=wanted: desired(wanted, memory))
        if not turn.desired.hold:
            assert not turn.open
        fresh = Reconciler(kernel, lambda: 0.0).preview(lambda _, w=wanted: desired(w))[1]
        assert {change.obj.key for change in fresh.changes} <= turn.open
    if not turn.desired.hold:
        assert settled(kernel, seen[-1]) == settled(walk([], None, seen[-1]), seen[-1])
    assert not kernel.trespasses
