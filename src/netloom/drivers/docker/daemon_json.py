"""Setting keys in Docker's ``daemon.json`` and leaving all else as a person wrote it.

The text is not rendered anew: only the values that change are replaced, and new keys are added at
the end in the file's own way. A file that is not JSON is left untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.store.whole_file import write_whole

DEFAULT_PATH = Path("/etc/docker/daemon.json")
_BLANKS = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class DaemonJson:
    """The file's text and where the values of its outermost keys are in it."""

    text: str
    keys: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]

    @classmethod
    def parse(cls, text: str, where: str = str(DEFAULT_PATH)) -> DaemonJson:
        """Parse the text; a blank one is an empty object. Raises InvalidConfig with the place."""
        if not text.strip():
            text = "{}\n"
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidConfig(
                f"{where}: not JSON: {error.msg}, at line {error.lineno} column {error.colno}",
                field=where,
                hint="it was left untouched; mend it first (dockerd does not start with it either)",
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits
            raise InvalidConfig(f"{where}: not JSON: {error}", field=where) from None
        if not isinstance(data, dict):
            raise InvalidConfig(
                f"{where}: expected an object in braces, found {text.strip()[:20]!r}",
                field=where,
                hint="it was left untouched",
            )
        return cls(text, data, _spans(text))

    def with_keys(self, wanted: Mapping[str, Any]) -> str:
        """Return the text with ``wanted`` set."""
        text = self.text
        replaced = [(self.spans[key], value) for key, value in wanted.items() if key in self.keys]
        for (start, end), value in sorted(replaced, reverse=True, key=lambda each: each[0]):
            if json.loads(text[start:end]) != value or _is_bool(text[start:end]) != _is_bool(
                json.dumps(value)
            ):
                text = text[:start] + json.dumps(value) + text[end:]
        added = [
            f"{json.dumps(key)}: {json.dumps(value)}"
            for key, value in wanted.items()
            if key not in self.keys
        ]
        return _with_members(text, added) if added else text


def read(path: Path) -> DaemonJson:
    """Read the file; an absent one is an empty object. Raises InvalidConfig, NotPermitted."""
    try:
        return DaemonJson.parse(path.read_bytes().decode(), str(path))
    except FileNotFoundError:
        return DaemonJson.parse("", str(path))
    except UnicodeDecodeError as error:
        raise InvalidConfig(
            f"{path}: not JSON: byte {error.start} is not UTF-8",
            field=str(path),
            hint="it was left untouched; mend it first",
        ) from None
    except PermissionError:
        raise NotPermitted(f"{path}: may not be read", hint="run it as root") from None
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}", field=str(path)) from None


def write(path: Path, text: str) -> None:
    """Put ``text`` in the file's place in one step; mode and owner stay.

    A link is followed: it stays one. Raises InvalidConfig, NotPermitted; the file is whole then.
    """
    write_whole(path, text, inherit=True)


def _spans(text: str) -> dict[str, tuple[int, int]]:
    """Return where the outermost values are; of a key that stands twice, the last counts."""
    decoder, spans = json.JSONDecoder(), {}
    at = _skip(text, text.index("{") + 1)
    while text[at] == '"':
        key, at = decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = decoder.raw_decode(text, start)
        spans[key] = (start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans


def _with_members(text: str, members: list[str]) -> str:
    """Add members at the end of the outermost object, in the way of those before."""
    first, last = _skip(text, text.index("{") + 1), text.rindex("}")
    body = text[text.index("{") + 1 : last].rstrip()
    lead = text[text.index("{") + 1 : first]
    if not body:
        lead, end = "\n    ", "\n"
    elif "\n" in lead:
        end = text[len(text[:last].rstrip()) : last]
    else:
        lead, end = " ", text[len(text[:last].rstrip()) : last]
    head = text[:last].rstrip()
    joined = f",{lead}".join(members)
    return f"{head}{',' if body else ''}{lead}{joined}{end}{text[last:]}"


def _is_bool(text: str) -> bool:
    return text in ("true", "false")


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at
