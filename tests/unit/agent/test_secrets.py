"""Secrets in files: whose rights are checked, and what stays when a file goes bad."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.agent.secrets import SecretFiles
from netloom.model.secret import Secret, SecretText

SECRET = Secret("bgp", "mesh")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "bgp" / "mesh"
    path.parent.mkdir()
    path.write_text("s3cret\n")
    path.chmod(0o600)
    return path


def found(place: Path) -> SecretText:
    return SecretFiles(place.parent.parent).read([SECRET])[SECRET]


def test_a_file_that_root_alone_may_read_is_the_password_without_its_line_end(place: Path) -> None:
    assert found(place) == SecretText("s3cret")
    assert "s3cret" not in repr(found(place))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "is not there"),
        (lambda path: path.chmod(0o640), "by others than root"),
        (lambda path: path.chmod(0o604), "by others than root"),
        (lambda path: os.chown(path, 12345, -1), "by others than root"),
        (lambda path: path.write_text(""), "holds no password"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "holds no password"),
        (lambda path: path.write_text("x" * 5000), "holds no password"),
        (_pipe, "is not a file"),
        (_folder, "is not a file"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_file_and_the_remedy(
    place: Path, spoil: Callable[[Path], object], why: str
) -> None:
    spoil(place)
    secret = found(place)
    assert secret.text is None
    assert str(place) in secret.trouble
    assert why in secret.trouble
    assert secret.hint


def test_the_last_good_text_stays_in_use_when_its_file_goes_bad(place: Path) -> None:
    files = SecretFiles(place.parent.parent)
    files.read([SECRET])
    place.chmod(0o644)
    secret = files.read([SECRET])[SECRET]
    assert secret.text == "s3cret"
    assert "chmod 600" in secret.hint
    files.read([])  # nobody wants it any more
    assert files.read([SECRET])[SECRET].text is None
