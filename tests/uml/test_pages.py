"""Pages that show what module ipip does, typed in a kernel that has it (and no firewall)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.examples import pages
from tests.examples.conftest import _lab_names, lab_name, shell  # noqa: F401 - these are fixtures

#: Of all pages together: dozens of commands, each a start of Python, which takes its time here.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("name", [name for name in pages.documents() if pages.needs_ipip(name)])
def test_what_the_page_shows_is_what_happens(shell: Callable, name: str) -> None:  # noqa: F811 - as above
    pages.check(shell, name, well=False)
