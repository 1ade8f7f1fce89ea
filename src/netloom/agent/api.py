"""The agent's own paths of the local API; drivers bring theirs (``/cni/…``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from netloom.agent.contracts import Attachments, Request, Response, Routes
from netloom.core.desired import Desired
from netloom.model.endpoint import Endpoint
from netloom.model.errors import InvalidConfig
from netloom.model.status import Status
from netloom.model.wording import describe
from netloom.reconcile.contracts import Verb
from netloom.reconcile.delta import Plan


def routes(
    status: Callable[[], Status],
    preview: Callable[[], tuple[Desired, Plan]],
    endpoints: Callable[[], tuple[Endpoint, ...]],
    attachments: Attachments,
    resync: Callable[[], None],
) -> Routes:
    """Return the handlers of ``/v1/…``."""

    def get_status(request: Request) -> Response:
        return Response(data=status().render())

    def get_plan(request: Request) -> Response:
        return Response(data=render_plan(*preview(), revision=status().store.revision))

    def get_endpoints(request: Request) -> Response:
        return Response(data=[endpoint.render() for endpoint in endpoints()])

    def post_resync(request: Request) -> Response:
        resync()
        return Response(data={})

    def post_detach(request: Request) -> Response:
        wanted = _object(request)
        attachments.detach(
            str(wanted.get("container", "")),
            str(wanted.get("ifname", "")),
            str(wanted.get("network", "")),
        )
        return Response(data={})

    return {
        ("GET", "/v1/status"): get_status,
        ("GET", "/v1/plan"): get_plan,
        ("GET", "/v1/endpoints"): get_endpoints,
        ("POST", "/v1/resync"): post_resync,
        ("POST", "/v1/detach"): post_detach,
    }


def render_plan(desired: Desired, plan: Plan, *, revision: int) -> dict[str, Any]:
    """Return the JSON form of ``netloom plan -o json`` and ``GET /v1/plan``."""
    return {
        "revision": revision,
        "changes": [
            {
                "verb": change.verb.value,
                "kind": change.obj.kind_name,
                "object": describe(change.obj),
                "was": describe(change.was) if change.verb is Verb.REPLACE and change.was else "",
                "reason": change.reason,
            }
            for change in plan.changes
        ],
        "problems": [
            {"severity": p.severity, "subject": p.subject, "text": p.text, "remedy": p.remedy}
            for p in (*desired.problems, *plan.problems)
        ],
    }


def _object(request: Request) -> dict[str, Any]:
    try:
        data = json.loads(request.body)
    except ValueError as error:
        raise InvalidConfig(f"body: not JSON: {error}", field="body") from None
    if not isinstance(data, dict):
        raise InvalidConfig("body: expected an object with fields", field="body")
    return data
