"""Network configuration lists as a runtime reads them: ``/etc/cni/net.d/*.conflist``.

``cache`` and ``runtime`` take over from here. Source: CNI specification 1.1.0, sections 1 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from netloom.drivers.cni.versions import CURRENT, at_least
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields

#: Keys of a plugin's configuration that the runtime alone may write.
_RUNTIME_KEYS = ("runtimeConfig", "prevResult", "capabilities")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin of a list: the executable's name, its keys as written, what it can take."""

    type: str
    keys: Mapping[str, Any]
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Conflist:
    """A network's plugins in order; ``version`` is the one that all of them are spoken to in."""

    name: str
    version: str
    plugins: tuple[Plugin, ...]
    disable_check: bool = False
    disable_gc: bool = False
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, data: object, where: str = "conflist") -> Conflist:
        """Parse a list, or a single plugin's configuration as a list of one.

        Raises InvalidConfig naming the field.
        """
        fields = Fields(data, where)
        assert isinstance(data, Mapping)
        if "plugins" not in data and "type" in data:
            return cls.parse(_list_of_one(data), where)
        name = fields.take_required("name")
        if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
            raise InvalidConfig(
                f"{fields.path('name')}: {name!r} is not a network name", value=name
            )
        versions = fields.take_list("cniVersions")
        versions.append(fields.take_str("cniVersion", "0.1.0"))
        plugins = tuple(
            _plugin(item, fields.path(f"plugins[{index}]"))
            for index, item in enumerate(fields.take_list("plugins"))
        )
        if not plugins:
            raise InvalidConfig(f"{fields.path('plugins')}: the list has no plugin")
        return cls(
            name,
            _best(versions, fields.path("cniVersions")),
            plugins,
            fields.take_bool("disableCheck", False),
            fields.take_bool("disableGC", False),
            MappingProxyType(dict(data)),
        )

    @classmethod
    def load(cls, path: Path) -> Conflist:
        """Read a ``.conflist`` or ``.conf`` file. Raises InvalidConfig naming file and field."""
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidConfig(f"{path}: {error}") from None
        return cls.parse(data, str(path))

    def configuration(
        self, plugin: Plugin, capabilities: Mapping[str, Any], previous: object = None
    ) -> dict[str, Any]:
        """Return what ``plugin`` gets on stdin.

        Of ``capabilities`` it gets those that it declares. ``previous`` None means: no prevResult.
        """
        config = {**plugin.keys, "cniVersion": self.version, "name": self.name}
        runtime = {key: value for key, value in capabilities.items() if key in plugin.capabilities}
        if runtime:
            config["runtimeConfig"] = runtime
        if previous is not None:
            config["prevResult"] = previous
        return config


def _list_of_one(data: Mapping[str, Any]) -> dict[str, Any]:
    outer = {key: data[key] for key in ("cniVersion", "name") if key in data}
    return {**outer, "plugins": [dict(data)]}


def _plugin(data: object, where: str) -> Plugin:
    fields = Fields(data, where)
    kind = fields.take_str("type")
    if not kind or "/" in kind:
        raise InvalidConfig(
            f"{where}.type: {kind!r} is not the name of an executable",
            field=f"{where}.type",
            value=kind,
            hint="give the plugin's file name without a folder",
        )
    declared = fields.take_map("capabilities")
    for key in _RUNTIME_KEYS:
        fields.take(key)
    keys = MappingProxyType({**fields.rest(), "type": kind})
    return Plugin(kind, keys, frozenset(name for name, on in declared.items() if on is True))


def _best(versions: list[Any], where: str) -> str:
    """Return the newest version that both the list's author and this runtime know."""
    known = [v for v in versions if isinstance(v, str) and at_least(CURRENT, v)]
    if not known:
        raise InvalidConfig(
            f"{where}: {versions} has no version that this runtime speaks",
            field=where,
            value=versions,
            hint=f"use {CURRENT}",
        )
    best = known[0]
    for version in known[1:]:
        best = version if at_least(version, best) else best
    return best
