"""Selectors: the grammar, what matches, and errors that show the place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.errors import InvalidConfig
from netloom.model.selector import Selector

LABELS = {"role": "web", "zone": "eu-1", "in-use": "yes", "example.org/rack": "r7", "in": "x"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("  ", True),
        ("all()", True),
        ("global()", True),
        ("has(role)", True),
        ("has( example.org/rack )", True),
        ("has(absent)", False),
        ("role == 'web'", True),
        ('role == "db"', False),
        ("absent == 'x'", False),
        ("role != 'db'", True),
        ("absent != 'x'", True),
        ("role in {'db', 'web'}", True),
        ("role in {}", False),
        ("absent in {'x'}", False),
        ("role not in {'db'}", True),
        ("absent not in {'x'}", True),
        ("role not   in {'web'}", False),
        ("zone contains 'u-'", True),
        ("zone starts with 'eu'", True),
        ("zone ends with '1'", True),
        ("absent starts with ''", False),
        ("!has(absent)", True),
        ("!!has(role)", True),
        ("role == 'db' || role == 'web' && zone == 'us'", False),
        ("(role == 'db' || role == 'web') && zone starts with 'eu'", True),
        ("role == 'web'&&zone=='eu-1'", True),
        ("in-use == 'yes'", True),
        ("in == 'x'", True),
    ],
)
def test_a_selector_holds_as_calicos_grammar_says(text: str, holds: bool) -> None:
    assert Selector.parse(text, "selector").matches(LABELS) is holds


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("role == web", 9, "a quoted string"),
        ("role", 5, "=="),
        ("role ==", 8, "a quoted string"),
        ("(has(a)", 8, "')'"),
        ("has(a) has(b)", 8, "the end"),
        ("has(a) &&", 10, "a label"),
        ("role in 'a'", 9, "'{'"),
        ("role in {'a' 'b'}", 14, "','"),
        ("@", 1, "a label"),
        ("role == 'open", 9, "a quoted string"),
        ("all() $", 7, "the end"),
    ],
)
def test_what_does_not_parse_is_shown_with_its_position(
    text: str, position: int, expected: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Selector.parse(text, "spec.nodeSelector")
    assert f"position {position}:" in str(caught.value)
    assert expected in str(caught.value)
    assert caught.value.field == "spec.nodeSelector"
    assert caught.value.value == text


def test_a_selector_of_a_thousand_levels_is_refused_and_does_no_harm() -> None:
    with pytest.raises(InvalidConfig, match="at most 100 levels"):
        Selector.parse("(" * 1000 + "all()" + ")" * 1000, "selector")


def test_what_is_no_text_is_no_selector() -> None:
    with pytest.raises(InvalidConfig, match="is not a selector"):
        Selector.parse({"role": "web"}, "selector")


@given(st.text(alphabet="ab'\"(){},!&|= intohscrel.", max_size=40))
def test_any_text_is_a_selector_or_an_error_that_a_user_can_act_on(text: str) -> None:
    try:
        verdict = Selector.parse(text, "selector").matches({})
    except InvalidConfig as error:
        remedy = error.hint
    else:
        remedy = "none needed"
        assert verdict in (True, False)
    assert remedy
