"""Files on a host that are ours: planned first, all of them checked, then written one by one.

A file is ours when the record of the last installation has its hash, or, without a record, when it
carries our mark. What is not ours, or was changed since, is never overwritten or removed unless
forced. Each file is replaced in one step, so that a runtime or systemd never reads half of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from netloom.model.errors import Conflict, InvalidConfig, NetloomError, NotPermitted, Unavailable

_RECORD = "/var/lib/netloom/installed.json"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be: ``path`` as the host sees it, and the ``mark`` that tells ours from others'.

    ``once``: written when there is none and the user's own from then on.
    """

    path: str
    content: bytes
    mark: bytes
    mode: int = 0o644
    once: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, or would be: ``create``, ``update``, ``remove``, or ``run``.

    ``unchanged`` and ``keep`` are said and not done. ``why`` is for people.
    """

    action: str
    what: str
    why: str = ""


class Installation:
    """What is installed below ``root`` (``/`` for the host itself)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashes = self._read_record()

    def place(self, path: str) -> Path:
        """Return where ``path`` of the host is below the root."""
        return self._root / path.lstrip("/")

    def plan(self, files: Sequence[File], *, force: bool = False) -> list[Step]:
        """Return one step per file, in the order given.

        Raises Conflict naming every file that is in the way.
        """
        foreign = [] if force else [reason for file in files if (reason := self._in_the_way(file))]
        if foreign:
            raise Conflict(
                "; ".join(foreign),
                hint="move it away, or overwrite it with --force",
            )
        return [self._step(file) for file in files]

    def carry_out(self, files: Sequence[File], steps: Sequence[Step]) -> None:
        """Write what the plan says; repeating it after a failure half-way is well."""
        todo = {step.what for step in steps if step.action in ("create", "update")}
        with _translated():
            for file in files:
                if file.path in todo:
                    self._write(self.place(file.path), file.content, file.mode)
                if file.path in todo or not file.once:
                    self._hashes[file.path] = _hash(file.content)
            self._write_record()

    def plan_removal(self, usual: Mapping[str, bytes], *, force: bool = False) -> list[Step]:
        """Return what to remove and what to keep, last written first.

        ``usual`` are paths with the mark of ours, for the case that the record is lost.
        """
        recorded = {path: usual.get(path, b"") for path in self._hashes}
        steps = []
        for path, mark in reversed(list({**usual, **recorded}.items())):
            content = self._content(path)
            if content is None:
                continue
            if self._is_ours(path, content, mark) or (force and path in self._hashes):
                steps.append(Step("remove", path))
            else:
                known = path in self._hashes
                why = "changed since it was installed" if known else "not written by netloom"
                steps.append(Step("keep", path, why))
        return steps

    def remove(self, steps: Sequence[Step]) -> None:
        """Remove what the plan says, folders of ours that are then empty, and the record."""
        with _translated():
            for step in steps:
                if step.action == "remove":
                    self.place(step.what).unlink(missing_ok=True)
                    self._hashes.pop(step.what, None)
            record = self.place(_RECORD)
            record.unlink(missing_ok=True)
            for folder in (self.place("/etc/netloom"), record.parent):
                with suppress(OSError):  # not empty, or never made
                    folder.rmdir()

    def _step(self, file: File) -> Step:
        present = self._content(file.path)
        if present is None:
            return Step("create", file.path)
        if file.once:
            return Step("keep", file.path, "it is yours")
        mode = self.place(file.path).stat().st_mode & 0o777
        if present == file.content and mode == file.mode:
            return Step("unchanged", file.path)
        return Step("update", file.path)

    def _in_the_way(self, file: File) -> str:
        """Return why a file may not be written, "" when it may."""
        present = self._content(file.path)
        if present is None or file.once or present == file.content:
            return ""
        if self._is_ours(file.path, present, file.mark):
            return ""
        if file.path in self._hashes:
            return f"{self.place(file.path)} was changed since it was installed"
        return f"{self.place(file.path)} is there and was not written by netloom"

    def _is_ours(self, path: str, content: bytes, mark: bytes) -> bool:
        if path in self._hashes:
            return self._hashes[path] == _hash(content)
        return bool(mark) and mark in content

    def _content(self, path: str) -> bytes | None:
        place = self.place(path)
        with _translated():
            try:
                return place.read_bytes()
            except FileNotFoundError:
                return None
            except IsADirectoryError:
                raise Conflict(f"{place} is a folder", hint="move it away") from None

    def _write(self, place: Path, content: bytes, mode: int) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)

    def _read_record(self) -> dict[str, str]:
        place = self.place(_RECORD)
        try:
            files = json.loads(place.read_bytes())["files"]
            return {str(path): str(digest) for path, digest in files.items()}
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise NotPermitted(f"may not read {place}", hint="run it as root") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidConfig(
                f"{place} is damaged: {error}",
                hint=f"remove {place}: our files are then known by their marks",
            ) from None

    def _write_record(self) -> None:
        text = json.dumps({"files": self._hashes}, indent=2) + "\n"
        if (self._content(_RECORD) or b"") != text.encode():
            self._write(self.place(_RECORD), text.encode(), 0o644)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise _error(error) from None


def _error(error: OSError) -> NetloomError:
    place = error.filename2 or error.filename
    text = f"{place}: {error.strerror}" if place else str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(text, hint="run it as root")
    if error.errno == errno.EROFS:
        return NotPermitted(text, hint="that file system is mounted read-only")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return Conflict(text, hint="move away what stands in the place of a folder")
    return Unavailable(text, hint="is the disk full or failing?")
