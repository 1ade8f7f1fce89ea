"""The CNI verbs, served on the agent's local API: ``POST /cni/<COMMAND>``.

A front brings a runtime's stdin as the body and its environment as headers; the answer is what the
front prints. Anything that goes wrong becomes a CNI error in the configuration's version: never a
traceback, never silence. VERSION is not here: the fronts answer it, also with the agent down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from netloom.agent.contracts import Attachments, Handler, Request, Response, Routes
from netloom.drivers.cni import codes, flannel, sandbox
from netloom.drivers.cni.config import NAME_LABEL, Configuration, version_of
from netloom.drivers.cni.environment import Environment, variables_of
from netloom.drivers.cni.errors import CniError, invalid
from netloom.drivers.cni.result import Result
from netloom.drivers.cni.versions import at_least
from netloom.model.attachment import Attached, AttachRequest
from netloom.model.errors import Bug, NetloomError, Unavailable
from netloom.model.surprise import told

ANSWER_TYPE = "application/vnd.netloom.cni+json"

_log = logging.getLogger(__name__)
_HTTP_STATUS = {
    codes.TRY_AGAIN_LATER: 503,
    codes.NOT_AVAILABLE: 503,
    codes.LIMITED_CONNECTIVITY: 503,
    codes.CONFLICT: 409,
    codes.EXHAUSTED: 409,
    codes.NOT_PERMITTED: 403,
    codes.UNKNOWN_CONTAINER: 404,
    codes.BUG: 500,
}
#: The version of the specification that brought a verb.
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

Verb = Callable[[Attachments, Configuration, Environment, Request], Mapping[str, Any] | None]


def routes(service: Attachments) -> Routes:
    """Return the local API's paths for CNI, served by ``service``."""

    def handler(command: str, verb: Verb) -> Handler:
        return partial(_serve, service, command, verb)

    return {("POST", f"/cni/{command}"): handler(command, verb) for command, verb in VERBS.items()}


def add(
    service: Attachments, config: Configuration, environment: Environment, request: Request
) -> Mapping[str, Any]:
    """Attach the container and return the chain's result with our part at its end."""
    wishes = config.wishes(environment)
    previous = config.previous or Result()
    _refuse_taken(previous, environment)
    inode = request.headers.get("x-cni-netns-inode", "")
    netns = sandbox.resolve(
        environment.netns, inode, request.pid, allow_own=environment.netns_override
    )
    attached = service.attach(
        AttachRequest(
            network=config.network,
            container_id=environment.container_id,
            ifname=environment.ifname,
            netns=netns,
            addresses=wishes.addresses,
            mac=wishes.mac,
            ports=wishes.ports,
            bandwidth=wishes.bandwidth,
            labels=wishes.labels,
        )
    )
    for note in flannel.notes(config.keys, attached):
        _log.warning("CNI ADD of %s: %s", environment.container_id, note)
    own = Result.of(attached, environment.netns, wishes.dns)
    return previous.followed_by(own).render(config.version)


def delete(
    service: Attachments, config: Configuration, environment: Environment, request: Request
) -> None:
    """Detach; whatever is gone already is well, and nothing but the names is looked at."""
    service.detach(environment.container_id, environment.ifname, config.network)


def check(
    service: Attachments, config: Configuration, environment: Environment, request: Request
) -> None:
    """Compare what stands with what was attached and with what the runtime remembers of it."""
    previous = config.previous
    if previous is None:
        raise invalid("prevResult", None, "is missing: CHECK needs the result of ADD")
    key = (environment.container_id, environment.ifname, config.network)
    attached = service.find(*key)
    if attached is None:
        raise CniError(
            codes.UNKNOWN_CONTAINER,
            f"{environment.ifname} of {environment.container_id} is not attached to network "
            f"{config.network}",
            "delete it and add it again",
        )
    differences = [*_compare(previous, attached), *service.check(*key)]
    if differences:
        raise CniError(codes.CHECK_FAILED, differences[0], "; ".join(differences))


def collect(
    service: Attachments, config: Configuration, environment: Environment, request: Request
) -> None:
    """Detach what this configuration attached and the runtime no longer lists."""
    keep = config.valid_attachments()
    for endpoint in service.collect(config.network, keep, {NAME_LABEL: config.name}):
        _log.info("GC removed %s: its container is gone", endpoint.handle)


def status(
    service: Attachments, config: Configuration, environment: Environment, request: Request
) -> None:
    """Answer whether an ADD would do; the details name every problem.

    An error that is not the network's own (the kernel cannot be read, say) means that nothing is
    repaired either: then containers that stand may suffer too.
    """
    try:
        problems = service.readiness(config.network)
    except Unavailable as error:
        raise CniError(codes.NOT_AVAILABLE, str(error), error.hint) from error
    if problems:
        first = problems[0]
        details = "; ".join(f"{problem.subject}: {problem.text}" for problem in problems)
        suffering = any(
            problem.severity == "error" and problem.subject != f"network {config.network}"
            for problem in problems
        )
        code = codes.LIMITED_CONNECTIVITY if suffering else codes.NOT_AVAILABLE
        raise CniError(code, f"{first.subject}: {first.text}", details)


VERBS: Mapping[str, Verb] = {
    "ADD": add,
    "DEL": delete,
    "CHECK": check,
    "GC": collect,
    "STATUS": status,
}


def _serve(service: Attachments, command: str, verb: Verb, request: Request) -> Response:
    started = time.monotonic()
    error: CniError | None = None
    answer: Mapping[str, Any] | None = None
    try:
        answer = _call(service, command, verb, request)
    except NetloomError as failure:
        error = CniError.of(failure)
        if isinstance(failure, Bug):
            _log.exception("CNI %s", command)
    except Exception as failure:  # noqa: BLE001  # a runtime must get JSON whatever happens
        _log.exception("CNI %s failed", command)
        error = CniError(codes.BUG, told(failure), "see the agent's log")
    _report(command, request, error, time.monotonic() - started)
    if error is not None:
        document = error.render(version_of(request.body))
        return Response(_HTTP_STATUS.get(error.code, 400), document, content_type=ANSWER_TYPE)
    if answer is None:  # success without words
        return Response(200, body=b"", content_type=ANSWER_TYPE)
    return Response(200, answer, content_type=ANSWER_TYPE)


def _call(
    service: Attachments, command: str, verb: Verb, request: Request
) -> Mapping[str, Any] | None:
    environment = Environment.parse(command, variables_of(request.headers))
    config = Configuration.parse(request.body)
    since = _SINCE.get(command, "0")
    if not at_least(config.version, since):
        raise CniError(
            codes.INCOMPATIBLE_VERSION,
            f"cniVersion: {config.version} has no {command}",
            f"use {since} or later",
        )
    return verb(service, config, environment, request)


def _report(command: str, request: Request, error: CniError | None, took_s: float) -> None:
    facts = {
        "container": request.headers.get("x-cni-containerid", ""),
        "ifname": request.headers.get("x-cni-ifname", ""),
        "trace": request.headers.get("traceparent", ""),
        "took_ms": f"{took_s * 1000:.1f}",
        "code": error.code if error else "",
        "error": error or "",
    }
    text = " ".join(f"{name}={value}" for name, value in facts.items() if value != "")
    _log.log(logging.WARNING if error else logging.INFO, "CNI %s %s", command, text)


def _refuse_taken(previous: Result, environment: Environment) -> None:
    """Refuse an ADD whose interface an earlier plugin of the chain has made."""
    for interface in previous.interfaces:
        if interface.sandbox and interface.name == environment.ifname:
            raise CniError(
                codes.CONFLICT,
                f"CNI_IFNAME: {environment.ifname} was made by a plugin earlier in the chain",
                "let netloom be the plugin that makes the interface, or give it another name",
            )


def _compare(previous: Result, attached: Attached) -> list[str]:
    """Return what the runtime remembers otherwise; what later plugins added is theirs."""
    endpoint = attached.endpoint
    known = {interface.name for interface in previous.interfaces if interface.sandbox}
    if endpoint.ifname not in known:
        return [f"prevResult has no interface {endpoint.ifname} in a container"]
    remembered = {address.address.ip for address in previous.addresses}
    return [
        f"prevResult lacks {address.ip}, which {endpoint.ifname} has"
        for address in attached.addresses
        if address.ip not in remembered
    ]
