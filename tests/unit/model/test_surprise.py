"""What nobody foresaw is told by its kind and place, and stays with the entry it is about."""

from __future__ import annotations

import pytest

from netloom.core.definition import parse
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.fields import nearest
from netloom.model.surprise import Unforeseen, foreseen, told


def test_a_surprise_is_told_without_what_it_was_about() -> None:
    try:
        "wörter sind geheim \u4e2d".encode("latin-1")
    except UnicodeEncodeError as error:
        text = told(error)
    assert text.startswith("UnicodeEncodeError at tests.unit.model.test_surprise:")
    assert "geheim" not in text


def test_its_place_is_the_innermost_of_ours() -> None:
    with pytest.raises(TypeError) as caught:
        nearest("word", [object(), object()])  # type: ignore[list-item]
    assert told(caught.value).startswith("TypeError at netloom.model.fields:")


def test_a_parser_that_is_surprised_refuses_its_entry() -> None:
    with pytest.raises(Unforeseen, match=r"^it cannot be interpreted: ZeroDivisionError at "):
        foreseen(lambda: 1 // 0)()


def test_what_a_parser_says_on_purpose_stays_as_it_is() -> None:
    def refuse() -> None:
        raise Conflict("taken")

    with pytest.raises(Conflict, match="taken"):
        foreseen(refuse)()
    with pytest.raises(InvalidConfig, match="pools") as caught:
        foreseen(parse)({"name": "blue"})
    assert not isinstance(caught.value, Unforeseen)
