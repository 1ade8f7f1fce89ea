"""What a runtime remembers between ADD and DEL: one file per attachment.

The files have libcni's name and form (``cniCacheV1``), so that a person, or another runtime given
the same folder, can read them. A file that cannot be read counts as absent: a DEL must go on.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

KIND = "cniCacheV1"


@dataclass(frozen=True, slots=True)
class Cached:
    """One attachment as it was added: with which arguments, and the chain's final result."""

    network: str
    container_id: str
    ifname: str
    netns: str
    result: Any = None
    capabilities: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    arguments: tuple[tuple[str, str], ...] = ()


class Cache:
    """The attachments of one runtime below ``folder``/results."""

    def __init__(self, folder: Path) -> None:
        self._results = folder / "results"

    def write(self, cached: Cached, config: bytes) -> None:
        """Remember an attachment; a reader sees the old file or the new one, never half of it."""
        self._results.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {
            "kind": KIND,
            "containerId": cached.container_id,
            "config": base64.b64encode(config).decode(),
            "ifName": cached.ifname,
            "networkName": cached.network,
            "netns": cached.netns,
            "cniArgs": [list(pair) for pair in cached.arguments],
            "capabilityArgs": dict(cached.capabilities),
            "result": cached.result,
        }
        path = self._path(cached.network, cached.container_id, cached.ifname)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(document), "utf-8")
        beside.replace(path)

    def read(self, network: str, container_id: str, ifname: str) -> Cached | None:
        """Return what was remembered, or None when it is absent or damaged."""
        return _parse(self._path(network, container_id, ifname))

    def forget(self, network: str, container_id: str, ifname: str) -> None:
        """Remove the file; absent is well."""
        self._path(network, container_id, ifname).unlink(missing_ok=True)

    def of_network(self, network: str) -> Iterator[Cached]:
        """Yield every readable attachment of ``network``, sorted by file name."""
        for path in sorted(self._results.glob("*")):
            cached = _parse(path)
            if cached is not None and cached.network == network:
                yield cached

    def _path(self, network: str, container_id: str, ifname: str) -> Path:
        return self._results / f"{network}-{container_id}-{ifname}"


def _parse(path: Path) -> Cached | None:
    try:
        document = json.loads(path.read_bytes())
        if document["kind"] != KIND:
            return None
        return Cached(
            network=str(document["networkName"]),
            container_id=str(document["containerId"]),
            ifname=str(document["ifName"]),
            netns=str(document.get("netns") or ""),
            result=document.get("result"),
            capabilities=MappingProxyType(dict(document.get("capabilityArgs") or {})),
            arguments=tuple((str(k), str(v)) for k, v in document.get("cniArgs") or ()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
