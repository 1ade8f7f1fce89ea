"""Network definitions as a person writes them: files, flags, ``key=value``; no checks of meaning.

Everything here works on the JSON form; ``core/definition.py`` decides what is valid.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netloom.core.definition import preset
from netloom.model.errors import InvalidConfig
from netloom.model.fields import whole_number

#: Fields that may be written as one word, and the field that the word stands for.
SHORT = {"backend": "type", "attachment": "type", "policy": "type", "addressing": "mode"}
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]{1,9})\]")


@dataclass(frozen=True)
class Wishes:
    """What ``network create`` was told beside a file: flags by their names, sets as written."""

    preset: str = ""
    pools: Sequence[str] = ()
    block_sizes: Sequence[int] = ()
    backend: str = ""
    attach: str = ""
    mtu: int | None = None
    sets: Sequence[str] = ()


def read_file(path: str) -> dict[str, Any]:
    """Read one definition from a YAML or JSON file, '-' for stdin. Raises InvalidConfig."""
    import yaml

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        data = yaml.safe_load(text)
    except FileNotFoundError:
        raise InvalidConfig(f"{path}: no such file", field="filename", value=path) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidConfig(f"{path}: {error}", field="filename", value=path) from None
    if not isinstance(data, dict):
        raise InvalidConfig(
            f"{path}: expected one definition as 'key: value'",
            field="filename",
            value=path,
            hint="`netloom network show NAME -o yaml` prints one to begin with",
        )
    return data


def assemble(name: str, data: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Put a definition together: preset, then the file's fields, then flags, then ``--set``."""
    if data.get("name", name) != name:
        raise InvalidConfig(
            f"name: the file defines {data['name']!r}, the command {name!r}",
            field="name",
            value=data["name"],
            hint="use one name, or leave it out of the file",
        )
    chosen = wishes.preset or data.get("preset", "")
    fields = {**(preset(str(chosen)) if chosen else {}), **data, "name": name}
    result = {key: _copied(value) for key, value in fields.items() if key != "preset"}
    if wishes.pools:
        result["pools"] = [{"cidr": cidr} for cidr in wishes.pools]
    _size(result, wishes.block_sizes)
    for key, word in (("backend.type", wishes.backend), ("attachment.type", wishes.attach)):
        if word:
            assign(result, key, word)
    if wishes.mtu is not None:
        result["mtu"] = wishes.mtu
    for pair in wishes.sets:
        assign(result, *split(pair))
    return result


def split(pair: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value. Raises InvalidConfig."""
    key, sign, text = pair.partition("=")
    if not sign or not key:
        raise InvalidConfig(
            f"{pair!r} is not key=value",
            field="set",
            value=pair,
            hint="e.g. backend.directRouting=true or mtu=1400",
        )
    return key, _value(text, key)


def assign(data: dict[str, Any], key: str, value: Any) -> None:
    """Set the field at a dotted path, e.g. ``backend.vni`` or ``pools[0].natOutgoing``.

    A value of None takes the field away; the place behind a list's last one adds to it. Another
    ``type`` of a choice takes the options along, since they are the former type's. Raises
    InvalidConfig for a path that leads nowhere.
    """
    steps = _steps(key)
    *way, last = steps
    place: Any = data
    for step in way:
        place = _enter(place, step, key)
    if isinstance(last, str) and isinstance(place, dict):
        if len(way) == 1 and SHORT.get(str(way[0])) == last:
            changed = place.get(last) != value
            if changed:
                place.clear()
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    elif isinstance(last, int) and isinstance(place, list) and last < len(place):
        if value is None:
            del place[last]
        else:
            place[last] = value
    elif last == len(place) and isinstance(place, list) and value is not None:
        place.append(value)
    else:
        raise _nowhere(key)


def differences(before: Any, after: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Yield (path, before, after) for every field that differs; None means absent."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            dotted = f"{path}.{key}" if path else str(key)
            yield from differences(before.get(key), after.get(key), dotted)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            one = before[index] if index < len(before) else None
            two = after[index] if index < len(after) else None
            yield from differences(one, two, f"{path}[{index}]")
    elif before != after:
        yield path, before, after


def _size(data: dict[str, Any], sizes: Sequence[int]) -> None:
    """Give pools their block sizes: up to 32 is meant for IPv4, or for IPv6 if that is all."""
    pools = data.get("pools")
    if not sizes or not isinstance(pools, list):
        return
    data["pools"] = pools = [{"cidr": p} if isinstance(p, str) else p for p in pools]
    families = {":" in str(pool.get("cidr")) for pool in pools}
    for size in sizes:
        six = size > 32 or False not in families
        if six not in families:
            raise InvalidConfig(
                f"blockSize: /{size} is for IPv6, and there is no IPv6 pool",
                field="blockSize",
                value=size,
                hint="choose at most 32, or add an IPv6 pool",
            )
        for pool in pools:
            if (":" in str(pool.get("cidr"))) == six:
                pool["blockSize"] = size


def _steps(key: str) -> list[str | int]:
    steps: list[str | int] = [name if name else int(index) for name, index in _STEP.findall(key)]
    if not steps or "".join(_STEP.sub("", key)).strip("."):
        raise _nowhere(key)
    return steps


def _enter(place: Any, step: str | int, key: str) -> Any:
    if isinstance(step, int):
        if not isinstance(place, list) or step >= len(place):
            raise _nowhere(key)
        if isinstance(place[step], str):
            place[step] = {"cidr": place[step]}
        return place[step]
    if not isinstance(place, dict):
        raise _nowhere(key)
    inner = place.setdefault(step, {})
    if isinstance(inner, str) and step in SHORT:
        inner = place[step] = {SHORT[step]: inner}
    return inner


def _nowhere(key: str) -> InvalidConfig:
    return InvalidConfig(
        f"{key}: there is no such place in the definition",
        field=key,
        value=key,
        hint="write a path such as backend.vni or pools[0].natOutgoing",
    )


def _value(text: str, key: str) -> Any:
    """Read a value: true, false, a number, [a, list], {an: object}, nothing, else text.

    Not all of YAML: there, 12:34 is a number and 'no' is false.
    """
    if text in ("true", "false"):
        return text == "true"
    if (number := whole_number(text)) is not None:
        return number
    if text[:1] in ("[", "{"):
        import yaml

        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidConfig(f"{key}: {error}", field=key, value=text) from None
    return text or None


def _copied(value: Any) -> Any:
    """Return a copy whose parts may be changed: presets are shared."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value
