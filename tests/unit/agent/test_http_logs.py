"""Log lines, as a person and as a machine read them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from netloom.agent.logs import configure
from netloom.model.errors import InvalidConfig, Unavailable


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(format: str, level: str = "info") -> str:
    stream = io.StringIO()
    configure(format, level, stream)
    log = logging.getLogger("netloom.agent.loop")
    log.debug("hidden")
    log.warning("repaired %d\n2026-01-01T00:00:00.000Z ERROR fake: x", 3, extra={"kind": "route"})
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    return stream.getvalue()


def test_json_logs_are_one_object_a_line_with_facts_and_trace() -> None:
    first, second = [json.loads(line) for line in written("json").splitlines()]
    assert first["level"] == "warning"
    assert first["logger"] == "netloom.agent.loop"
    assert first["kind"] == "route"
    assert first["message"].startswith("repaired 3\n")
    assert first["time"].endswith("Z")
    assert "test_http_logs.py" in second["trace"]
    assert second["trace"].endswith("builtins.ValueError")


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_trace_holds_no_exceptions_words_but_ours(format: str) -> None:
    """Those of others may hold all that was written, a password among it."""
    stream = io.StringIO()
    configure(format, "info", stream)
    try:
        try:
            "password \u4e2d".encode("ascii")
        except UnicodeEncodeError as error:
            raise Unavailable("the store is away") from error
    except Unavailable:
        logging.getLogger("netloom.agent").exception("failed")
    text = stream.getvalue()
    assert "UnicodeEncodeError" in text
    assert "Unavailable: the store is away" in text
    assert text.count("most recent call last") == 2
    assert "can't encode" not in text


def test_text_logs_have_one_record_per_unindented_line_whatever_a_message_holds() -> None:
    heads = [line for line in written("text").splitlines() if not line.startswith("    ")]
    assert [line.split(" ", 1)[1] for line in heads] == [
        "WARNING agent.loop: repaired 3",
        "ERROR   agent.loop: failed",
    ]


def test_the_level_decides_what_is_written() -> None:
    assert "hidden" in written("text", "debug")
    assert "repaired" not in written("text", "error")


@pytest.mark.parametrize(("format", "level"), [("jsno", "info"), ("json", "inof")])
def test_an_unknown_format_or_level_is_refused_with_the_nearest(format: str, level: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        configure(format, level)
    assert caught.value.hint in ("did you mean 'json'?", "did you mean 'info'?")
