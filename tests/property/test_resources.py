"""Whatever stands in a document: it is taken, or refused as the user's to mend, never a bug."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from netloom.cli.resources import files, notation
from netloom.cli.resources.printing import as_yaml
from netloom.core.resources.contract import Picture
from netloom.core.resources.table import KINDS
from netloom.model.errors import InvalidConfig, NetloomError
from netloom.model.resource import Resource
from netloom.model.surprise import Unforeseen
from netloom.model.view import Cluster

HEAD = "apiVersion: projectcalico.org/v3\n"
EXAMPLES = """\
kind: IPPool
metadata: {name: p, annotations: {netloom/network: blue}}
spec: {cidr: 10.0.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: Always, natOutgoing: true,
  nodeSelector: all(), allowedUses: [Workload], assignmentMode: Manual, disabled: false}
---
kind: IPReservation
metadata: {name: r}
spec: {reservedCIDRs: [10.0.0.0/24, 10.1.0.1, "fd00::/64"]}
---
kind: IPAMConfiguration
metadata: {name: default}
spec: {strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 2, ipCooldownSeconds: 1}
---
kind: Node
metadata: {name: H_1, labels: {rack: a},
  annotations: {netloom/ip-autodetection-method: first-found}}
spec: {bgp: {asNumber: 65001, routeReflectorClusterID: 244.0.0.1, ipv4Address: 10.0.0.1/24},
  addresses: [{address: 10.0.0.1, type: CalicoNodeIP}]}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: "1.10", nodeToNodeMeshEnabled: true, listenPort: 179, nodeMeshMaxRestartTime: 120s,
  nodeMeshPassword: {secretKeyRef: {name: a, key: b}}, communities: [{name: c, value: 1:2}],
  prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c, "1:2:3"]}], ignoredInterfaces: [x]}
---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: "[2001:db8::1]:1790", asNumber: 64513, nodeSelector: "rack == 'a'", filters: [f],
  password: {secretKeyRef: {name: a, key: b}}, keepaliveTime: 30s, ttlSecurity: 1}
---
kind: BGPFilter
metadata: {name: f}
spec:
  exportV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 8, max: 24},
    operations: [{addCommunity: {value: "1:2"}}], asPathPrefix: [1],
    communities: {values: ["1:2"]}}]
  importV6: [{action: Reject}]
---
kind: HostEndpoint
metadata: {name: h}
spec: {node: h1, interfaceName: eth0, expectedIPs: [10.0.0.1], profiles: [a],
  ports: [{name: a, port: 80, protocol: TCP}]}
---
kind: NetworkSet
metadata: {name: s, namespace: prod}
spec: {nets: [10.0.0.0/8, 10.0.0.1]}
---
kind: GlobalNetworkSet
metadata: {name: s, labels: {a: b}}
spec: {nets: ["fd00::/8"]}
---
kind: Profile
metadata: {name: s}
spec: {labelsToApply: {a: b}, ingress: [{action: Allow}], egress: []}
---
kind: FelixConfiguration
metadata: {name: node.H_1}
spec: {ipipMTU: 1400, ipipEnabled: true, floatingIPs: Enabled, vxlanVNI: 1}
---
apiVersion: v1
kind: ipPool
metadata: {cidr: 10.0.0.0/16}
spec: {ipip: {enabled: true, mode: cross-subnet}, nat-outgoing: true, disabled: false}
---
apiVersion: v1
kind: bgpPeer
metadata: {scope: node, node: h1, peerIP: 10.0.0.1}
spec: {asNumber: 64512}
---
apiVersion: v1
kind: node
metadata: {name: h1}
spec: {bgp: {asNumber: 64512, ipv4Address: 10.0.0.1}}
"""
DOCUMENTS: list[Any] = [data for data, _ in notation.load(EXAMPLES, "examples")]

#: What some part of Python takes for a number, and another not; and one value of each JSON type.
NINES = "9" * 5000
HARD: list[Any] = [
    *("²", "--5", "1_0", "\uff11\uff17\uff19", "\u0663", " 7 ", "1e3", "nan"),
    *("-0", NINES, "²:²", f"1:{NINES}"),
    *("192.0.2.1:²", f"[::1]:{NINES}", f"1.2.3.4:{NINES}", "²s", f"{NINES}h", "1.²", f"1.{NINES}"),
    *("10.0.0.0/²", f"10.0.0.0/{NINES}", "[2020-99-99]", "{1: 2}", "", "x\ny", "\0"),
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), [], [None], [[1]], {}, {"a": 1}),
]
like_numbers = st.sampled_from([each for each in HARD if isinstance(each, str)])
scalars = (
    like_numbers
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.0/8", "::1", "all()", "Always", "default", "1.2", "-1", "65001:1"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


def paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        yield from paths(value, (*path, key))


def leaves(data: Any) -> Iterator[Any]:
    for path in paths(data):
        value = data
        for key in path:
            value = value[key]
        yield value


def each_replaced(data: Any) -> Iterator[Any]:
    """Yield ``data`` with each of its parts in turn replaced by each of :data:`HARD`."""
    for path in paths(data):
        for value in HARD:
            yield with_value(data, path, value)


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = place = copy.deepcopy(data)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """One of the examples with some of its values replaced, or one more field somewhere."""
    data = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths(data))))
        value = draw(values)
        if not path:
            return value
        place = data
        for key in path[:-1]:
            place = place[key]
        if isinstance(place, dict) and draw(st.booleans()):
            place[draw(st.text(min_size=1, max_size=6))] = value
        else:
            place[path[-1]] = value
    return data


@contextmanager
def refusals() -> Iterator[None]:
    """Let a refusal pass that names what is wrong, and none that only tells of a surprise."""
    try:
        yield
    except Unforeseen:
        raise
    except InvalidConfig:
        pass


@pytest.mark.parametrize("example", DOCUMENTS, ids=lambda data: str(data["kind"]))
def test_the_examples_are_well(example: Any) -> None:
    files.document(example, "f", {})


@pytest.mark.parametrize("example", DOCUMENTS, ids=lambda data: str(data["kind"]))
def test_whatever_stands_in_place_of_one_field_it_is_taken_or_refused(example: Any) -> None:
    for changed in each_replaced(example):
        with refusals():
            files.document(changed, "f", {})


@given(broken())
def test_a_document_is_taken_or_refused(data: Any) -> None:
    with refusals():
        read = files.document(data, "f", {})
        # What is taken can be kept and read again, and changes the store or says why not.
        kept = json.loads(json.dumps(read.resource.render()))
        assert Resource.parse(kept).identity == read.resource.identity
        assert read.kind is KINDS[read.resource.kind]
        with suppress(NetloomError):
            read.kind.keeping.written(Picture(Cluster()), read.resource)


@given(broken())
def test_what_is_printed_is_read_as_what_it_was(data: Any) -> None:
    """But for numbers: what Kubernetes' tools take for text stays text."""
    assume(data is not None and "float" not in repr(list(map(type, leaves(data)))))
    with suppress(InvalidConfig):
        ((read, lines),) = notation.load(as_yaml(data), "f")
        assert read == data
        assert min(lines.values()) == 1


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    with suppress(InvalidConfig):
        list(files.parse(text, "f"))
