"""Which part of a datastore URL is flannel's format, and which is the store's own."""

from __future__ import annotations

import pytest

from netloom.model.errors import InvalidConfig
from netloom.store.flannel.layout import Format
from netloom.store.flannel.url import take_format


@pytest.mark.parametrize(
    ("url", "place", "form"),
    [
        ("etcd://h:2379", "etcd://h:2379", None),
        ("etcd://h:2379?prefix=/a", "etcd://h:2379?prefix=/a", None),
        ("etcd://h:2379?format=netloom&prefix=/a", "etcd://h:2379?prefix=/a", None),
        ("etcd://h:2379?format=flannel", "etcd://h:2379", Format()),
        (
            "etcds://h:2379?ca=/ca.pem&format=flannel&prefix=/atomic.io/network&user=u",
            "etcds://h:2379?ca=/ca.pem&user=u",
            Format("/atomic.io/network"),
        ),
        (
            "etcd://h:2379?format=flannel&ttl=60&ipmasq=false&network=blue",
            "etcd://h:2379",
            Format(network="blue", ttl_s=60.0, ip_masq=False),
        ),
    ],
)
def test_the_format_is_taken_out_of_the_url(url: str, place: str, form: Format | None):
    assert take_format(url) == (place, form)


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("format=flanel", "unknown 'flanel'", "did you mean 'flannel'?"),
        ("format=flannel&ttl=day", "'day' is not a number", "86400"),
        ("format=flannel&ttl=5", "5 s is not a lease's life", "at least 30 s"),
        ("format=flannel&ipmasq=1", "neither true nor false", "ipmasq=true"),
        ("format=flannel&prefix=/", "names no place", "/coreos.com/network"),
        ("format=flannel&network=No", "not a valid name", "lower-case"),
    ],
)
def test_a_wrong_part_is_refused_with_the_remedy(query: str, message: str, hint: str):
    with pytest.raises(InvalidConfig, match=message) as caught:
        take_format(f"etcd://h:2379?{query}")
    assert caught.value.field == "datastore"
    assert hint in caught.value.hint
