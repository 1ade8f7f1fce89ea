"""What an audit of addresses found: asked of the agent or of the datastore, kept in a file, undone.

The file is what ``netloom ipam check -o json`` prints and ``calicoctl ipam check -o FILE`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netloom.cli.client import Client
from netloom.cli.cluster import opened
from netloom.cli.settings import Settings
from netloom.core.ipam.audit import Facts, check
from netloom.model.errors import Conflict, InvalidConfig, NotPermitted, Unavailable
from netloom.model.fields import Fields

Answer = dict[str, Any]


def audit(settings: Settings) -> Answer:
    """Return ``{host, endpoints, unjudged, findings}`` of this host's agent, else of the store."""
    try:
        answer: Answer = Client(settings.socket).get("/v1/ipam/audit")
    except (Unavailable, NotPermitted) as error:
        return _of_store(settings, str(error))
    return answer


def read(path: str) -> Answer:
    """Return the answer that a file keeps. Raises InvalidConfig."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfig(
            f"{path}: {error.strerror}",
            field="from-report",
            value=path,
            hint="write one with `calicoctl ipam check -o FILE`",
        ) from None
    except ValueError as error:
        raise _unknown(path, f"it is not JSON: {error}") from None
    try:
        fields = Fields(data, "")
        answer: Answer = {
            "host": fields.take_str("host"),
            "findings": [
                {name: each.take_str(name) for name in ("kind", "handle", "subject")}
                for item in fields.take_list("findings")
                for each in [Fields(item, "findings")]
            ],
        }
    except InvalidConfig as error:
        raise _unknown(path, str(error)) from None
    if "endpoints" not in data:
        raise _unknown(path, "it does not say how many endpoints there were")
    return answer


def leaks(answers: Sequence[Answer]) -> list[str]:
    """Return the handles of all leaks in the answers, each once."""
    found = [f["handle"] for a in answers for f in a["findings"] if f["kind"] == "leak"]
    return list(dict.fromkeys(found))


def leaks_in(paths: Sequence[str], client: Client) -> list[str]:
    """Return the leaks that reports tell of this host. Raises Conflict for another host's."""
    own = client.get("/v1/ipam/audit")["host"]
    answers = [read(path) for path in paths]
    for path, answer in zip(paths, answers, strict=True):
        if answer["host"] and answer["host"] != own:
            raise Conflict(
                f"{path}: it was written on host {answer['host']}, this is {own}",
                hint="release its leaks there: only that host knows whether a container is back",
            )
    return leaks(answers)


def _of_store(settings: Settings, why: str) -> Answer:
    """Judge what the datastore alone shows, since no agent answers here."""
    with opened(settings) as cluster:
        endpoints = cluster.endpoints
        facts = Facts(cluster.cluster, "", mirrored=endpoints, journal=False)
        findings = [asdict(finding) for finding in check(facts)]
    return {
        "host": "",
        "endpoints": len(endpoints),
        "unjudged": [f"leaks: {why}"],
        "findings": findings,
    }


def _unknown(path: str, why: str) -> InvalidConfig:
    return InvalidConfig(
        f"{path}: {why}",
        field="from-report",
        value=path,
        hint="write one with `calicoctl ipam check -o FILE`",
    )
