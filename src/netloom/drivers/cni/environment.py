"""The CNI_* environment of a call: which variables a verb needs, and what may be in them.

Source: CNI specification 1.1.0, section 2; the checks are those of libcni's ``skel`` except that
CNI_PATH, which the specification calls optional and we never use, may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote

from netloom.drivers.cni import codes
from netloom.drivers.cni.errors import CniError

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
#: A key of the host's journal holds it; runtimes use 64 hex digits.
_MAX_CONTAINER_ID = 255
_MAX_IFNAME = 15  # the kernel's IFNAMSIZ less the final NUL

#: What each verb cannot do without.
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
#: Header of the local API to variable; the fronts percent-encode the values.
_HEADERS: Mapping[str, str] = {
    "x-cni-containerid": "CNI_CONTAINERID",
    "x-cni-netns": "CNI_NETNS",
    "x-cni-ifname": "CNI_IFNAME",
    "x-cni-args": "CNI_ARGS",
    "x-cni-path": "CNI_PATH",
    "x-cni-netns-override": "CNI_NETNS_OVERRIDE",
}
_KUBERNETES: Mapping[str, str] = {
    "K8S_POD_NAMESPACE": "k8s.pod.namespace",
    "K8S_POD_NAME": "k8s.pod.name",
    "K8S_POD_UID": "k8s.pod.uid",
    "K8S_POD_INFRA_CONTAINER_ID": "k8s.pod.infra-container",
}
_KNOWN_ARGUMENTS = {"IP", "MAC", "IGNOREUNKNOWN", *_KUBERNETES}


@dataclass(frozen=True, slots=True)
class Environment:
    """The checked variables. ``arguments`` are CNI_ARGS; ``netns`` may be "" for DEL."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    netns_override: bool = False

    @classmethod
    def parse(cls, command: str, variables: Mapping[str, str]) -> Environment:
        """Check the variables of one call. Raises CniError 4 naming the variable."""
        if command not in _REQUIRED:
            raise CniError(codes.BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
        missing = [name for name in _REQUIRED[command] if not variables.get(name)]
        if missing:
            raise CniError(
                codes.BAD_ENVIRONMENT,
                f"required environment variables are missing: {', '.join(missing)}",
                f"{command} needs {', '.join(_REQUIRED[command])}",
            )
        if not _REQUIRED[command]:
            return cls(command)
        return cls(
            command,
            _container_id(variables["CNI_CONTAINERID"]),
            variables.get("CNI_NETNS", ""),
            _ifname(variables["CNI_IFNAME"]),
            # A DEL must come through whatever was passed to it: what it frees has no arguments.
            _NONE if command == "DEL" else _arguments(variables.get("CNI_ARGS", "")),
            variables.get("CNI_NETNS_OVERRIDE", "").upper() in ("1", "TRUE"),
        )

    @property
    def labels(self) -> dict[str, str]:
        """What CNI_ARGS says of the pod, as labels of the endpoint."""
        pairs = ((label, self.arguments.get(name, "")) for name, label in _KUBERNETES.items())
        return {label: value for label, value in pairs if value}


_NONE: Mapping[str, str] = MappingProxyType({})


def variables_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a front sent as headers. Raises CniError 4 for odd bytes."""
    variables = {}
    for header, name in _HEADERS.items():
        if header in headers:
            value = unquote(headers[header], errors="surrogateescape")
            if not value.isprintable():
                raise CniError(
                    codes.BAD_ENVIRONMENT, f"{name}: {value!r} has bytes that are not text"
                )
            variables[name] = value
    return variables


def _container_id(text: str) -> str:
    if not _CONTAINER_ID.fullmatch(text) or len(text) > _MAX_CONTAINER_ID:
        raise CniError(
            codes.BAD_ENVIRONMENT,
            f"CNI_CONTAINERID: {text[:80]!r} is not a container id",
            "letters, digits, '_', '.' and '-', beginning with a letter or digit, "
            f"at most {_MAX_CONTAINER_ID}",
        )
    return text


def _ifname(text: str) -> str:
    why = ""
    if len(text.encode()) > _MAX_IFNAME:
        why = f"is longer than {_MAX_IFNAME} bytes"
    elif text in (".", ".."):
        why = "is a name that the kernel refuses"
    elif any(sign in "/:" or sign.isspace() for sign in text):
        why = "has a '/', a ':' or a space in it"
    if why:
        raise CniError(codes.BAD_ENVIRONMENT, f"CNI_IFNAME: {text[:80]!r} {why}", "e.g. eth0")
    return text


def _arguments(text: str) -> Mapping[str, str]:
    """Parse ``K=V;K=V``; unknown keys are refused unless ``IgnoreUnknown`` is true."""
    arguments = {}
    for pair in filter(None, text.split(";")):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CniError(
                codes.BAD_ENVIRONMENT, f"CNI_ARGS: {pair[:80]!r} is not KEY=VALUE", text[:200]
            )
        arguments[name] = value
    ignore = arguments.get("IgnoreUnknown", "").lower() in ("1", "true", "yes", "on")
    unknown = [name for name in arguments if name.upper() not in _KNOWN_ARGUMENTS]
    if unknown and not ignore:
        raise CniError(
            codes.BAD_ENVIRONMENT,
            f"CNI_ARGS: unknown: {', '.join(unknown)[:200]}",
            "known are IP, MAC and K8S_POD_*; add IgnoreUnknown=1 to pass others",
        )
    return MappingProxyType(arguments)
