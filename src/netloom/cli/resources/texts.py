"""The texts that ``-f`` names: of a file, of a folder's files, of standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted
from netloom.model.fields import closest

#: What a folder's files are read by.
SUFFIXES = (".yaml", ".yml", ".json")
_TAKES = "-f takes a file, a folder of .yaml, .yml and .json files, or - for standard input"


def found(filename: str, recursive: bool, skip_empty: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each file that ``filename`` names, in the names' order.

    Raises InvalidConfig when there is none, naming what is there, a folder without any only where
    it is not ``skip_empty``; NotPermitted.
    """
    if not filename:  # an empty variable is not meant for the working folder
        raise _wrong(filename, "filename: '' names no file", _TAKES)
    try:
        if filename == "-":
            yield "standard input", sys.stdin.read()
        elif os.path.isdir(filename):
            for each in _files_of(filename, recursive, skip_empty):
                yield str(each), each.read_text(encoding="utf-8")
        else:
            with open(filename, encoding="utf-8") as source:
                yield filename, source.read()
    except UnicodeDecodeError as error:
        raise _wrong(filename, f"{filename}: is not UTF-8: {error}", "save it as UTF-8") from None
    except OSError as error:
        raise _unread(filename, error) from None


def _files_of(folder: str, recursive: bool, skip_empty: bool) -> list[Path]:
    inside = Path(folder).rglob("*") if recursive else Path(folder).iterdir()
    files = sorted(each for each in inside if each.suffix in SUFFIXES and each.is_file())
    if not files and not skip_empty:
        text = f"{folder}: no file in it ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        more = "" if recursive else "; -R looks into its folders too"
        raise _wrong(folder, text, f"name the file itself{more}")
    return files


def _unread(filename: str, error: OSError) -> NetloomError:
    """Return what is told of a file that could not be read."""
    place = str(error.filename or filename)
    if isinstance(error, PermissionError):
        return NotPermitted(f"{place}: {error.strerror}", hint=f"see its rights: ls -l {place}")
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return _wrong(filename, f"{place}: {error.strerror}", _TAKES)
    missing = Path(place)
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return _wrong(filename, f"{place}: {missing.parent} is a file, not a folder", _TAKES)
    is_last = missing == Path(place)
    text = "there is no such file" if is_last else f"there is no folder {missing}"
    others = (each for each in missing.parent.iterdir() if is_last or each.is_dir())
    by_stem = {each.stem: each.name for each in others}
    match = by_stem.get(closest(missing.stem, by_stem), "")
    written = os.path.join(os.path.dirname(place if is_last else str(missing)), match)
    return _wrong(filename, f"{place}: {text}", f"did you mean {written!r}?" if match else _TAKES)


def _wrong(filename: str, text: str, hint: str) -> InvalidConfig:
    return InvalidConfig(text, field="filename", value=filename, hint=hint)
