"""Changes that are more than a store takes at once, and what is said when half of them is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.memory_store import FaultyStore

from netloom.cli.cluster import ClusterStore
from netloom.cli.resources import files
from netloom.cli.resources.editor import Editor
from netloom.core.resources.table import KINDS
from netloom.model.datastore import Committed, Store, Transaction
from netloom.model.errors import Unavailable

Netloom = Callable[..., Any]
Put = Callable[[str, Any], int]
RESERVATION = """\
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {{name: r{0}}}
spec: {{reservedCIDRs: [10.1.{0}.0/24]}}
---
"""
NAMES = [f"r{number}" for number in range(130)]


class Breaking(FaultyStore):
    """A store that is away from the second transaction on."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner, 0, done=False)
        self._commits = 0

    def commit(self, transaction: Transaction) -> Committed:
        self._commits += 1
        if self._commits > 1:
            raise Unavailable("the store is away")
        return super().commit(transaction)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "many.yaml"
    path.write_text("".join(RESERVATION.format(number) for number in range(len(NAMES))))
    return str(path)


def interrupted(store: Store, change: Callable[[Editor], object]) -> Unavailable:
    editor = Editor(ClusterStore(Breaking(store)))
    change(editor)
    with pytest.raises(Unavailable) as raised:
        editor.commit()
    return raised.value


def test_who_creates_is_told_to_skip_what_is_there(
    netloom: Netloom, store: Store, file: str
) -> None:
    documents = files.read([file], namespace="", recursive=False)
    error = interrupted(store, lambda editor: [editor.create(each) for each in documents])
    assert str(error) == "30 of 130 changes were not made: the store is away"
    assert error.hint == "do it again with --skip-exists: what is done stays so"
    assert netloom("create", "-f", file, "--skip-exists").code == 0
    assert len(netloom("get", "ipreservations", "-o", "json").data["items"]) == len(NAMES)


def test_who_applies_does_the_same_again(netloom: Netloom, store: Store, file: str) -> None:
    documents = files.read([file], namespace="", recursive=False)
    error = interrupted(store, lambda editor: [editor.apply(each) for each in documents])
    assert error.hint == "do it again: what is done stays so"
    assert netloom("apply", "-f", file).code == 0


def test_who_deletes_is_told_to_skip_what_is_gone(
    netloom: Netloom, store: Store, file: str
) -> None:
    assert netloom("create", "-f", file).code == 0
    kind = KINDS["IPReservation"]
    error = interrupted(store, lambda editor: [editor.delete(kind, "", n) for n in NAMES])
    assert error.hint == "do it again with --skip-not-exists: what is done stays so"
    assert netloom("delete", "ipreservation", *NAMES, "--skip-not-exists").code == 0
    assert netloom("get", "ipreservations", "-o", "json").data["items"] == []


def test_of_a_pool_that_is_gone_the_blocks_go_by_themselves(
    netloom: Netloom, store: Store, put: Put, tmp_path: Path
) -> None:
    """The pool goes first, so there is nothing to do again; what stays is found."""
    pools = [{"cidr": "10.244.0.0/16", "blockSize": 26}, {"cidr": "10.99.0.0/16", "blockSize": 26}]
    put("/netloom/v1/cluster/networks/blue", {"name": "blue", "pools": pools})
    for n in range(130):
        block = {"network": "blue", "cidr": f"10.99.{n}.0/26", "host": "h2", "state": "confirmed"}
        put(f"/netloom/v1/cluster/blocks/blue/10.99.{n}.0-26", block)
    kind = KINDS["IPPool"]
    error = interrupted(store, lambda editor: editor.delete(kind, "", "blue-ipv4-ippool-2"))
    assert str(error) == "32 of 132 changes were not made: the store is away"
    assert error.hint == (
        "what is left are blocks of pools that are gone: their hosts give them back, and `netloom "
        "ipam check` names those of hosts that do not run"
    )
    assert "ippool-2" not in netloom("get", "ippools").out
    said = netloom("ipam", "check", "--socket", str(tmp_path / "none"))
    assert "found 32 problems" in said.out
