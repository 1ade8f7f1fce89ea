"""Tables, JSON, YAML and colour."""

from __future__ import annotations

import io
import json
import os
import pty

import pytest
import yaml

from netloom.cli.render import OUTPUTS, Table, boxed, coloured, emit, pairs, width


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    table = Table(("NAME", "MTU"), frozenset({"MTU"}))
    table.add("a", 1450)
    table.add("a-very-long-name-" * 10, 65535)
    table.add("two\nlines", None)
    lines = table.render().splitlines()
    column = len("a-very-long-name-" * 10) + 2
    assert [line[column:] for line in lines] == ["  MTU", " 1450", "65535", "    -", ""]
    assert lines[3].startswith("two")
    assert lines[4] == "lines"


def test_pairs_hang_below_their_value_and_leave_out_what_is_empty() -> None:
    assert pairs([("host", "h1"), ("empty", ""), ("blocks", "a\nb")]) == (
        "host    h1\nblocks  a\n        b"
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_one_document_in_every_form(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"x": 1}
    document = {"a": same, "b": same}
    emit(output, document, lambda: "text")
    out = capsys.readouterr().out
    if output == "table":
        assert out == "text\n"
    else:
        assert (json.loads if output == "json" else yaml.safe_load)(out) == document
        assert "&" not in out


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal:
        assert coloured(terminal)
        assert not coloured(io.StringIO())
        monkeypatch.setenv("NO_COLOR", "1")
        assert not coloured(terminal)


def test_colour_takes_no_room() -> None:
    assert width("\033[31mred\033[0m") == 3


def test_a_table_has_no_control_characters_of_others() -> None:
    table = Table(["NAME", "STATE"])
    table.add("a\tb\033[31mc", "one\ntwo\r")
    assert table.render().splitlines() == [
        "NAME           STATE",
        r"a\tb\x1b[31mc  one",
        r"               two\r",
    ]
    assert pairs([("name", "a\x00b\nc")]) == "name  a\\x00b\n      c"
    assert boxed(["A"], [["\x9b1m"]]).splitlines()[3] == r"| \x9b1m |"
