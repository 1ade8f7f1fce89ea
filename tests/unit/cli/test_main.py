"""The command line as a process: exit codes, messages, and how quick it is to import little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from netloom.cli import main as frame
from netloom.cli.main import VERBS, Verb, run
from netloom.model.errors import (
    Bug,
    Conflict,
    InvalidConfig,
    KernelRejected,
    NotPermitted,
    Unavailable,
)


def netloom(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netloom", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a function that adds the verb ``try``, which raises a given error."""
    import types

    def add(error: BaseException) -> None:
        @click.command()
        def fails() -> None:
            raise error

        module = types.ModuleType("netloom.cli.trial")
        setattr(module, "try", fails)
        monkeypatch.setitem(sys.modules, "netloom.cli.trial", module)
        monkeypatch.setitem(VERBS, "try", Verb("trial", "Fail."))

    return add


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidConfig("m", hint="do this"), 3),
        (Conflict("m", hint="do this"), 4),
        (NotPermitted("m", hint="do this"), 5),
        (Unavailable("m", hint="do this"), 6),
        (KernelRejected("add", "route x", 17, hint="do this"), 7),
    ],
)
def test_each_error_has_its_exit_code_its_hint_and_no_traceback(
    verb, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(error)
    assert run(["try"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {error}\nhint: do this\n")


@pytest.mark.parametrize("error", [Bug("broken"), ZeroDivisionError("broken")])
def test_a_bug_shows_its_traceback_and_asks_for_a_report(
    verb, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(error)
    assert run(["try"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "please report it" in err


def test_control_c_ends_with_130_and_without_words(
    verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(KeyboardInterrupt())
    assert run(["try"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_overview_imports_no_verb_and_lists_them_all() -> None:
    program = (
        "import sys; from netloom.cli.main import run; code = run(['--help']); "
        "print(code, [name for name in sys.modules if name.startswith('netloom.') and name not in "
        "('netloom.cli', 'netloom.cli.main', 'netloom.cli.render', 'netloom.model', "
        "'netloom.model.errors', 'netloom.model.fields')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert all(f"\n  {name} " in done.stdout for name in VERBS)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["status", "--nope"], "No such option"),
        (["network", "create"], "Missing argument"),
        (["--nope"], "No such option"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(args: list[str], words: str) -> None:
    done = netloom(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_verb_of_a_later_version_is_said_to_be_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(frame.VERBS, "later", Verb("no_such_module", "Not yet."))
    assert run(["later"]) == 2
    assert "'later' is not part of netloom" in capsys.readouterr().err


def test_a_verb_whose_own_import_fails_is_a_bug_and_not_called_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nl_broken.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    import netloom.cli

    monkeypatch.setattr(netloom.cli, "__path__", [*netloom.cli.__path__, str(tmp_path)])
    monkeypatch.setitem(frame.VERBS, "broken", Verb("nl_broken", "Broken."))
    assert run(["broken"]) == 1
    assert "surely_not_installed" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """The pipe is full and closed: what we still write has no reader."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "netloom", "--help"], stdout=write, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (128 + signal.SIGPIPE, "")


def test_the_version_is_printed() -> None:
    done = netloom("--version")
    assert (done.returncode, done.stdout) == (0, "netloom 0.1.0\n")


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_explains_itself_with_an_example(name: str) -> None:
    done = netloom(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"netloom {name}" in done.stdout.split("Usage:", 1)[1].split("\n", 1)[1]
