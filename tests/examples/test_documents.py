"""Every ```console block of the documents runs, and every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from . import pages

ROOT = pages.ROOT
#: Those that show ``tunl0`` are typed in the kernel that has it: ``tests/uml/test_pages.py``.
HERE = [name for name in pages.documents() if not pages.needs_ipip(name)]
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")


@pytest.mark.timeout(600)  # dozens of commands, each a start of Python
@pytest.mark.parametrize("name", HERE)
def test_what_the_document_shows_is_what_happens(shell: Callable, name: str) -> None:
    pages.check(shell, name)


def anchors(page: Path) -> set[str]:
    """Return what a link to ``page`` may name behind its ``#``: its headings, as GitHub does."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    linked = {path for path, _ in _LINK.findall(readme)}
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked


@pytest.mark.parametrize(
    ("document", "output", "absent"),
    [
        ("# a\nroute 10.244.1.0/24 dev x", "route 10.244.7.0/24  dev x", []),
        ("# a\nroute 10.244.1.0/24 dev x", "route 10.244.7.0/24 dev y", ["route"]),
        ("# a\n...\nlast", "first\nsecond\nlast", []),
        ("# a\nlladdr 0a:00:00:00:00:01", "lladdr fe:dc:ba:98:76:54", []),
    ],
)
def test_a_line_that_is_not_printed_is_found_and_a_number_does_not_matter(
    document: str, output: str, absent: list[str]
) -> None:
    """The comparison itself can fail."""
    [command] = pages.commands(f"```console\n{document}\n```")
    assert [line.split()[0] for line in pages.missing(command, output)] == absent
