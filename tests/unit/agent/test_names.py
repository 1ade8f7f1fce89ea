"""Host names that the underlay is chosen by: asked in the background, kept, told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.views import ip

from netloom.agent.names import Names, look_up
from netloom.core.interface_methods import Answer
from netloom.lab.waiting import wait_until
from netloom.model.addr import IPAddress

GATEWAY = "gateway.example.org"
WANTED = frozenset({GATEWAY})
LONG_S = 600.0
PATIENCE_S = 60.0  # no test waits this long unless it fails
SHORT_S = 0.05  # for questions that are not answered


class Server:
    """A name server that says what it is told to, or nothing while it is away."""

    def __init__(self) -> None:
        self.answers = {GATEWAY: ["192.168.30.1"]}
        self.trouble = ""
        self.asked = threading.Semaphore(0)
        self.there = threading.Event()
        self.there.set()

    def look_up(self, name: str) -> list[IPAddress]:
        self.asked.release()
        self.there.wait(LONG_S)
        if self.trouble:
            raise OSError(-3, self.trouble)
        return [ip(text) for text in self.answers.get(name, ())]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.there.set()


@pytest.fixture
def names(server: Server, tmp_path: Path) -> Iterator[Names]:
    names = made(server, tmp_path)
    yield names
    names.close()


@pytest.fixture
def hasty(server: Server, tmp_path: Path) -> Iterator[Names]:
    """On a busy machine it may take any question for one that is not answered, for a while."""
    names = made(server, tmp_path, SHORT_S)
    yield names
    names.close()


def made(server: Server, folder: Path, limit_s: float = PATIENCE_S) -> Names:
    return Names(folder / "names.json", lambda: None, 0.02, server.look_up, limit_s=limit_s)


def becomes(names: Names, wanted: Answer) -> None:
    wait_until(
        lambda: names.answers(WANTED)[GATEWAY] == wanted,
        deadline_s=PATIENCE_S,
        what=f"{wanted}, not {names.answers(WANTED)}",
    )


def is_well(names: Names) -> None:
    wait_until(lambda: not names.problems(), deadline_s=PATIENCE_S, what="no problem")


def known(*addresses: str, trouble: str = "") -> Answer:
    return Answer(tuple(ip(each) for each in addresses), trouble)


def test_nobody_waits_for_an_answer(hasty: Names, server: Server) -> None:
    names = hasty
    server.there.clear()
    assert names.answers(WANTED) == {GATEWAY: Answer(pending=True)}
    assert server.asked.acquire(timeout=PATIENCE_S)
    assert names.answers(WANTED)[GATEWAY] in (
        Answer(pending=True),
        known(trouble="no answer within 0.05 s"),
    )
    becomes(names, known(trouble="no answer within 0.05 s"))
    server.there.set()
    becomes(names, known("192.168.30.1"))
    is_well(names)


def test_a_name_that_changes_is_followed(names: Names, server: Server) -> None:
    becomes(names, known("192.168.30.1"))
    server.answers[GATEWAY] = ["192.168.26.1", "192.168.26.2"]
    becomes(names, known("192.168.26.1", "192.168.26.2"))


@pytest.mark.parametrize("how", ["trouble", "silence", "empty"])
def test_the_last_good_answer_stays_when_there_is_none(
    request: pytest.FixtureRequest, server: Server, tmp_path: Path, how: str
) -> None:
    names: Names = request.getfixturevalue("hasty" if how == "silence" else "names")
    becomes(names, known("192.168.30.1"))
    if how == "trouble":
        server.trouble = "Temporary failure in name resolution"
    elif how == "empty":
        server.answers[GATEWAY] = []
    else:
        server.there.clear()
    told = {
        "trouble": "Temporary failure in name resolution",
        "empty": "it has no address",
        "silence": "no answer within 0.05 s",
    }[how]
    becomes(names, known("192.168.30.1", trouble=told))
    (problem,) = names.problems()
    assert told in problem.text
    assert "what was last known is used: 192.168.30.1" in problem.text
    assert f"getent ahosts {GATEWAY}" in problem.remedy
    again = made(server, tmp_path, SHORT_S if how == "silence" else PATIENCE_S)
    assert again.answers(WANTED)[GATEWAY].addresses == (ip("192.168.30.1"),), "over a restart too"
    becomes(again, known("192.168.30.1", trouble=told))
    again.close()
    server.trouble, server.answers[GATEWAY] = "", ["192.168.30.1"]
    server.there.set()
    becomes(names, known("192.168.30.1"))
    is_well(names)


def test_a_question_that_hangs_is_not_asked_again(hasty: Names, server: Server) -> None:
    server.there.clear()
    becomes(hasty, known(trouble="no answer within 0.05 s"))
    before = set(threading.enumerate())
    assert server.asked.acquire(timeout=PATIENCE_S)
    assert not server.asked.acquire(timeout=0.3), "several rounds later"
    assert set(threading.enumerate()) <= before


def test_who_chooses_by_no_name_has_no_thread(server: Server, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    assert made(server, tmp_path).answers(frozenset()) == {}
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 7}', '{"gateway.example.org": ["x"]}', "7"])
def test_a_file_that_says_nothing_is_no_answer(server: Server, tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    names = made(server, tmp_path)
    assert names.answers(WANTED)[GATEWAY].addresses in ((), (ip("192.168.30.1"),))
    becomes(names, known("192.168.30.1"))
    names.close()


def test_a_name_of_this_host_alone_leads_nowhere() -> None:
    with pytest.raises(OSError, match="this host's own"):
        look_up("localhost")


def test_an_address_is_found_as_the_system_finds_it() -> None:
    assert look_up("192.0.2.1") == [ip("192.0.2.1")]
