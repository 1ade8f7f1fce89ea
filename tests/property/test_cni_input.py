"""Whatever a runtime sends, it gets a CNI answer: a result, or an error with a code of ours."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.agent.contracts import Request
from netloom.drivers.cni import codes
from netloom.drivers.cni.result import Address, Interface, Result
from netloom.drivers.cni.server import VERBS, routes
from netloom.drivers.cni.versions import SUPPORTED, at_least
from netloom.model.errors import InvalidConfig, Unavailable

#: The codes that an input may lead to: a bug of ours (999) is not among them.
ALLOWED = {value for value in vars(codes).values() if isinstance(value, int)} - {codes.BUG}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
cidrs = st.sampled_from(["10.0.0.1/24", "fd00::1/64", "10.0.0.1", "::/0", "x/24", ""])
results = st.fixed_dictionaries(
    {},
    optional={
        "cniVersion": st.sampled_from(SUPPORTED),
        "interfaces": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["eth0", "br0"]) | json_values}),
            max_size=3,
        ),
        "ips": st.lists(
            st.fixed_dictionaries(
                {"address": cidrs | json_values}, optional={"interface": st.integers(-2, 4)}
            ),
            max_size=3,
        ),
        "routes": st.lists(st.fixed_dictionaries({"dst": cidrs, "gw": json_values}), max_size=2),
        "dns": json_values,
        "ip4": json_values,
    },
)
runtime_configs = st.fixed_dictionaries(
    {},
    optional={
        "ips": st.lists(cidrs) | json_values,
        "mac": st.just("02:00:00:00:00:01") | json_values,
        "portMappings": json_values,
        "bandwidth": json_values,
        "dns": json_values,
        "ipRanges": json_values,
    },
)
configurations = st.fixed_dictionaries(
    {"cniVersion": st.sampled_from(SUPPORTED), "name": st.just("net") | json_values},
    optional={
        "network": st.just("default") | json_values,
        "ipam": json_values,
        "prevResult": results | json_values,
        "runtimeConfig": runtime_configs | json_values,
        "args": st.fixed_dictionaries({"cni": json_values}) | json_values,
        "dns": json_values,
        "cni.dev/valid-attachments": json_values,
    },
)
bodies = st.one_of(
    configurations.map(lambda c: json.dumps(c).encode()),
    json_values.map(lambda c: json.dumps(c).encode()),
    st.binary(max_size=64),
)
environments = st.fixed_dictionaries(
    {
        "x-cni-containerid": st.just("c1") | st.text(max_size=20),
        "x-cni-ifname": st.just("eth0") | st.text(max_size=20),
        "x-cni-netns": st.just("/nowhere") | st.text(max_size=20),
    },
    optional={
        "x-cni-args": st.just("IgnoreUnknown=1;IP=10.0.0.1") | st.text(max_size=40),
        "x-cni-netns-inode": st.text(max_size=9),
        "x-cni-netns-override": st.sampled_from(["1", "x"]),
    },
).map(lambda headers: {name: quote(value) for name, value in headers.items()})


class Away:
    """An agent that is never able: what reaches it was well formed."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*arguments: object, **named: object) -> None:
            raise Unavailable("away")

        return refuse


@settings(max_examples=400, deadline=None)
@given(command=st.sampled_from(sorted(VERBS)), body=bodies, headers=environments)
def test_any_input_is_answered_with_a_cni_error_and_never_a_bug(
    command: str, body: bytes, headers: dict[str, str]
) -> None:
    path = f"/cni/{command}"
    response = routes(Away())[("POST", path)](Request("POST", path, {}, headers, body))
    document = json.loads(json.dumps(response.data))
    assert response.status != 200
    assert document["code"] in ALLOWED, document
    assert document["cniVersion"] in SUPPORTED
    assert document["msg"]
    assert "Traceback" not in document["msg"] + document["details"]


@settings(max_examples=200, deadline=None)
@given(document=results, version=st.sampled_from(SUPPORTED))
def test_a_result_survives_parsing_and_rendering_in_every_version(
    document: dict[str, Any], version: str
) -> None:
    try:
        result = Result.parse(document)
    except InvalidConfig:
        return
    rendered = result.render(version)
    again = Result.parse(json.loads(json.dumps(rendered)))
    assert again.render(version) == rendered
    if at_least(version, "1.1.0"):
        assert again == result


addresses = st.ip_addresses(v=4).map(lambda ip: f"{ip}/24")


@given(before=st.lists(addresses, max_size=3), after=st.lists(addresses, max_size=3))
def test_in_a_chain_every_address_still_points_to_its_own_interface(
    before: list[str], after: list[str]
) -> None:
    def result(prefix: str, texts: list[str]) -> Result:
        interfaces = tuple(Interface(f"{prefix}{n}") for n in range(len(texts)))
        items = (
            Address.parse({"address": text, "interface": n}, "") for n, text in enumerate(texts)
        )
        return Result(interfaces, tuple(items))

    def pairs(found: Result) -> list[tuple[str, str]]:
        return [
            (found.interfaces[item.interface].name, str(item.address))
            for item in found.addresses
            if item.interface is not None
        ]

    one, two = result("a", before), result("b", after)
    assert pairs(one.followed_by(two)) == pairs(one) + pairs(two)
