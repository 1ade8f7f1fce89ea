"""What ``-f`` names: a file that is not there, a folder, standard input."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.cli import calicoctl
from netloom.cli.resources import files
from netloom.model.errors import NotPermitted

Netloom = Callable[..., Any]
PEER = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 64513}\n"
TAKES = "-f takes a file, a folder of .yaml, .yml and .json files, or - for standard input"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with some files, as an operator has them."""
    with tempfile.TemporaryDirectory(prefix="nl-") as name:
        place = Path(name)
        (place / "peers").mkdir()
        for each in ("bgp-peers.yaml", "pools.yml", "README.txt"):
            (place / each).write_text(PEER)
        monkeypatch.chdir(place)
        yield place


@pytest.mark.parametrize("verb", ["apply", "create", "replace", "delete"])
@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("bgp-peer.yaml", "bgp-peer.yaml: there is no such file", "did you mean 'bgp-peers.yaml'?"),
        ("pool", "pool: there is no such file", "did you mean 'pools.yml'?"),
        ("./pools.yaml", "./pools.yaml: there is no such file", "did you mean './pools.yml'?"),
        ("peer", "peer: there is no such file", "did you mean 'peers'?"),
        ("xyzzy.yaml", "xyzzy.yaml: there is no such file", TAKES),
        ("per/x.yaml", "per/x.yaml: there is no folder per", "did you mean 'peers'?"),
        ("peers/a/b.yaml", "peers/a/b.yaml: there is no folder peers/a", TAKES),
        ("pools.yml/x", "pools.yml/x: pools.yml is a file, not a folder", TAKES),
        ("", "filename: '' names no file", TAKES),
        (
            "peers",
            "peers: no file in it ends in .yaml, .yml or .json",
            "name the file itself; -R looks into its folders too",
        ),
    ],
)
def test_a_file_that_is_not_there_is_named_with_what_is(
    netloom: Netloom, folder: Path, verb: str, name: str, text: str, hint: str
) -> None:
    said = netloom(verb, "-f", name)
    assert (said.code, said.err) == (3, f"error: {text}\nhint: {hint}\n")


def test_calicoctl_says_it_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calicoctl.run(["validate", "-f", "bgp-peer.yaml"], {}) == 3
    assert capsys.readouterr().err == (
        "error: bgp-peer.yaml: there is no such file\nhint: did you mean 'bgp-peers.yaml'?\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
def test_a_file_that_may_not_be_read_is_not_a_wrong_one(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "pools.yml").chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted, match=r"pools\.yml: Permission denied") as caught:
            files.read(["pools.yml"])
    finally:
        os.seteuid(0)
    assert caught.value.hint == "see its rights: ls -l pools.yml"


@pytest.mark.parametrize("verb", ["create", "apply", "replace", "delete", "get"])
def test_what_is_empty_may_be_skipped(netloom: Netloom, folder: Path, verb: str) -> None:
    (folder / "empty.yaml").write_text("# nothing yet\n---\n")
    assert netloom("apply", "-f", "empty.yaml").code == 3
    assert netloom("apply", "--skip-empty", "-f", "empty.yaml").out == "Nothing to do\n"
    said = netloom(verb, "-R", "--skip-empty", "-f", "empty.yaml", "-f", "peers")
    assert (said.code, said.err) == (0, "")
