"""What YAML and JSON bring that nobody means, or that only tools write: one answer for each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.cli.resources import files, notation
from netloom.model.errors import InvalidConfig

Netloom = Callable[..., Any]
HEAD = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\n"
PEER = f"{HEAD}metadata: {{name: tor}}\nspec: {{peerIP: 192.0.2.1, asNumber: 64513}}\n"


@pytest.fixture
def apply(netloom: Netloom, tmp_path: Path) -> Callable[[str | bytes], Any]:
    def call(text: str | bytes) -> Any:
        path = tmp_path / "f.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return netloom("apply", "-f", str(path))

    return call


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (PEER.replace("asNumber", "peerIP: 192.0.2.2, asNumber"), 4, "stands in line 4 as well"),
        (f"{PEER}spec: {{}}\n", 5, "spec: stands in line 4 as well"),
        (PEER.replace("peerIP: 192.0.2.1", "1: 2"), 4, 'write it in quotes, "1"'),
        (PEER.replace("peerIP: 192.0.2.1", "[1, 2]: 2"), 4, "a list or an object is no field"),
        (PEER.replace("peerIP: 192.0.2.1", "~: 2"), 4, "is no field's name"),
        (PEER.replace("64513}", "64513"), 5, "expected ',' or '}'"),
        (f"{HEAD}\tmetadata:\n", 3, "indent by blanks"),
        (PEER.replace("192.0.2.1", "!!python/object:os.system x"), 4, "constructor"),
        (PEER.replace("192.0.2.1", '"\\ud800"'), 4, "half a character"),
        (PEER.replace("192.0.2.1", "a\x00b"), 4, "special characters are not allowed"),
        (PEER.replace("BGPPeer", "[BGPPeer]"), 2, "there is no kind"),
        (PEER.replace("BGPPeer", "{a: b}"), 2, "there is no kind"),
        ("apiVersion: v1\nkind: [x]\n", 2, "v1 has no kind"),
        (PEER.replace("BGPPeer", "NetworkPolicy"), 2, "rules of policy are not there yet"),
        (PEER.replace("BGPPeer", "IPAMBlock"), 2, "netloom ipam show"),
        (PEER.replace("tor", "tor, resourceVersion: true"), 3, "is not a revision"),
        (PEER.replace("tor", "tor, resourceVersion: -1"), 3, "is not a revision"),
        ("hello\n", 1, "expected an object"),
        ("- 1\n- 2\n", 1, "expected an object"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(
    apply: Callable[[str], Any], text: str, line: int, words: str
) -> None:
    said = apply(text)
    assert said.code == 3
    assert f"f.yaml:{line}:" in said.err
    assert words in said.err
    assert "hint:" in said.err or text[0] in "h-"
    assert len(said.err.splitlines()) <= 2


def test_aliases_that_multiply_are_refused_before_they_do() -> None:
    """Nine levels of nine are 387 million values: "a billion laughs"."""
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    with pytest.raises(InvalidConfig, match="more than 1000000 values"):
        list(notation.load(f"l0: &l0 [x]\n{levels}", "f.yaml"))


def test_a_value_that_holds_itself_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="nested too deeply"):
        list(notation.load("a: &a {b: *a}\n", "f.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        PEER.replace("\n", "\r\n"),
        PEER.encode("utf-8-sig"),
        f"---\n# nothing\n---\n{PEER}...\n",
        PEER.replace("{peerIP: 192.0.2.1,", "{<<: {peerIP: 192.0.2.1},"),
        PEER.replace("tor", "tor, finalizers: [x], ownerReferences: []") + "status: {a: b}\n",
        json.dumps(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "BGPPeer",
                "metadata": {"name": "tor"},
                "spec": {"peerIP": "192.0.2.1", "asNumber": 64513},
            },
            indent="\t",
        ),
    ],
    ids=["crlf", "bom", "empty documents", "merge key", "of kubernetes", "json with tabs"],
)
def test_what_other_tools_write_is_taken(
    apply: Callable[[str | bytes], Any], netloom: Netloom, text: str | bytes
) -> None:
    assert apply(text).code == 0
    got = netloom("get", "bgppeer", "tor", "-o", "json").data
    assert got["spec"] == {"peerIP": "192.0.2.1", "asNumber": 64513}


def test_letters_beyond_ascii_stay_what_they_are(
    apply: Callable[[str], Any], netloom: Netloom
) -> None:
    note = {"note": "Zürich 😀"}
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPPeer",
        "metadata": {"name": "tor", "annotations": note},
        "spec": {"peerIP": "192.0.2.1", "asNumber": 64513},
    }
    assert apply(json.dumps(document)).code == 0  # which writes the last sign as two escapes
    assert netloom("get", "bgppeer", "tor", "-o", "json").data["metadata"]["annotations"] == note
    assert "Zürich 😀" in netloom("get", "bgppeer", "tor", "-o", "yaml").out


def test_standard_input_is_read_once_and_text_of_another_coding_is_named(
    netloom: Netloom, apply: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PEER))
    said = netloom("apply", "-f", "-", "-f", "-")
    assert (said.code, "only once" in said.err) == (3, True)
    said = apply(PEER.encode("utf-16"))
    assert (said.code, "save it as UTF-8" in said.err) == (3, True)


def test_a_folder_brings_its_files_and_not_its_folders(netloom: Netloom, tmp_path: Path) -> None:
    inner = tmp_path / "all" / "more.yaml"
    inner.mkdir(parents=True)
    (tmp_path / "all" / "one.yml").write_text(PEER)
    (tmp_path / "all" / "README").write_text("no document")
    (inner / "two.json").write_text(PEER.replace("tor", "spine"))
    assert "applied 1 'BGPPeer'" in netloom("apply", "-f", str(tmp_path / "all")).out
    assert "applied 2 'BGPPeer'" in netloom("apply", "-R", "-f", str(tmp_path / "all")).out
    said = netloom("apply", "-f", str(tmp_path / "nowhere"))
    assert (said.code, "there is no such file" in said.err) == (3, True)


def test_a_list_of_a_list_names_the_line_of_its_item(apply: Callable[[str], Any]) -> None:
    items = "".join(
        f"- apiVersion: projectcalico.org/v3\n  kind: BGPPeer\n  metadata: {{name: p{n}}}\n"
        f"  spec: {{peerIP: 192.0.2.{n}, asNumber: {n}}}\n"
        for n in range(3)
    )
    assert ":6: spec.asNumber" in apply(f"kind: List\nitems:\n{items}").err
    assert ":4: spec.asNumber" in apply(items).err


@pytest.mark.parametrize("name", ["Host-One", "host_1", "h1.Example.org", "H"])
def test_a_host_is_labelled_under_whatever_name_it_has(
    netloom: Netloom, put: Callable[[str, Any], int], name: str
) -> None:
    put("/netloom/v1/cluster/hosts/h1", {"id": "h1", "name": name})
    assert netloom("label", "node", name, "rack=1").code == 0
    assert netloom("get", "node", name, "-o", "json").data["metadata"]["labels"] == {"rack": "1"}


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-", "ä", "a" * 254, "7e1/"])
def test_no_other_name_becomes_a_key(
    netloom: Netloom, apply: Callable[[str], Any], name: str
) -> None:
    text = PEER.replace("BGPPeer", "Node").replace("name: tor", f"name: '{name}'")
    said = apply(text.partition("spec")[0])
    assert said.code == 3
    assert "f.yaml:3: metadata.name" in said.err


UNHEARD_OF = [
    *("!!binary aGVsbG8=", "!!set {a, b}", "!!omap [a: b]", "!!pairs [a: b]"),
    *("!!timestamp 2020-01-01", ".nan", "-.inf", "9" * 5000, "0x" + "f" * 5000, "-" + "9" * 4400),
]


@pytest.mark.parametrize("value", UNHEARD_OF, ids=lambda value: str(value)[:12])
def test_what_json_cannot_hold_is_refused_with_its_line(value: str) -> None:
    """A document is kept as JSON: a set passed all checks, and ended in a traceback."""
    head = "kind: BGPConfiguration\nmetadata: {name: default}\nspec:\n"
    text = f"{head}  serviceClusterIPs: {value}\n"
    with pytest.raises(InvalidConfig, match=r"^f:4: "):
        list(files.parse(text, "f"))


@pytest.mark.parametrize("value", ["1", "1.5", "a", "~", "[1]", "{a: b}", "true", '"0x1"', "0x1f"])
def test_what_json_holds_is_taken(value: str) -> None:
    text = f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{bindMode: {value}}}\n"
    assert len(list(files.parse(text, "f"))) == 1


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("apiVersion: projectcalico.org/v4\nkind: List", "2: apiVersion: 'projectcalico.org/v4'"),
        ("# of one\nkind: IPPool", "3: kind: 'IPPool' is no list"),
        ("kind: List\nmetdata: {}", "3: metdata: unknown field"),
    ],
)
def test_what_holds_items_is_a_list_and_nothing_else(head: str, told: str) -> None:
    text = f"---\n{head}\nitems:\n- kind: NetworkSet\n  metadata: {{name: a}}\n  spec: {{}}\n"
    with pytest.raises(InvalidConfig) as caught:
        list(files.parse(text, "f"))
    assert str(caught.value).startswith(f"f:{told}")


@pytest.mark.parametrize(
    "head",
    [
        "apiVersion: v1\nkind: List",
        "apiVersion: projectcalico.org/v3\nkind: NetworkSetList\nmetadata: {resourceVersion: '7'}",
        "kind: List\nmetadata:",
    ],
)
def test_lists_are_taken_as_calico_and_kubernetes_write_them(head: str) -> None:
    text = f"{head}\nitems:\n- kind: NetworkSet\n  metadata: {{name: a}}\n  spec: {{}}\n"
    (found,) = files.parse(text, "f")
    assert found.resource.name == "a"
