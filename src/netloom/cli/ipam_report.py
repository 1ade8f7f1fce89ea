"""What an audit of addresses found: asked of the agent or of the datastore, kept in a file, undone.

The file is what ``netloom ipam check -o json`` prints and ``calicoctl ipam check -o FILE`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netloom.cli.client import Client
from netloom.cli.cluster import opened
from netloom.cli.settings import Settings
from netloom.core.ipam.audit import Facts, check
from netloom.model.errors import Conflict, InvalidConfig, NotPermitted, Unavailable
from netloom.model.fields import Fields
from netloom.reconcile.cluster import unreadable

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
                {name: each.take_str(name) for name in ("kind", "handle", "subject", "host")}
                for item in fields.take_list("findings")
                for each in [Fields(item, "findings")]
            ],
        }
    except InvalidConfig as error:
        raise _unknown(path, str(error)) from None
    if "endpoints" not in data:
        raise _unknown(path, "it does not say how many endpoints there were")
    return answer


def leaks(answers: Iterable[Answer]) -> list[str]:
    """Return the handles of all leaks in the answers, each once."""
    found = [f["handle"] for a in answers for f in a["findings"] if f["kind"] == "leak"]
    return list(dict.fromkeys(found))


def orphans(answers: Iterable[Answer]) -> frozenset[tuple[str, str]]:
    """Return the orphan blocks in the answers, by CIDR and host."""
    found = (f for a in answers for f in a["findings"] if f["kind"] == "orphan-block")
    return frozenset((f["subject"], f["host"]) for f in found)


def refuse_others(reports: Mapping[str, Answer], client: Client) -> None:
    """See that reports with leaks are of this host. Raises Conflict for another host's.

    Raises Unavailable without an agent, who alone can release a leak.
    """
    telling = {path: answer for path, answer in reports.items() if leaks([answer])}
    own = client.get("/v1/ipam/audit")["host"] if telling else ""
    for path, answer in telling.items():
        if answer["host"] and answer["host"] != own:
            raise Conflict(
                f"{path}: it was written on host {answer['host']}, this is {own}",
                hint="release its leaks there: only that host knows whether a container is back",
            )


def _of_store(settings: Settings, why: str) -> Answer:
    """Judge what the datastore alone shows, since no agent answers here."""
    with opened(settings) as cluster:
        endpoints = cluster.endpoints
        unread = unreadable(cluster.cluster)
        facts = Facts(cluster.cluster, "", mirrored=endpoints, journal=False, unread=unread)
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
