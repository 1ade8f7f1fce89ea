"""Where calicoctl's users keep their datastore's place: ``calicoctl.cfg`` and the environment.

Both forms of the file are read, v1's (``calicoApiConfig``) and v3's (``CalicoAPIConfig``), and the
variables of the same names (``ETCD_ENDPOINTS``, or ``CALICO_ETCD_ENDPOINTS``), which win. What they
say becomes a URL as ``--datastore`` has it. Source: reference/calico.md §1.3.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.model.fields import Fields, nearest

DEFAULT_FILE = Path("/etc/calico/calicoctl.cfg")
_FORMS = {"v1": "calicoApiConfig", "projectcalico.org/v3": "CalicoAPIConfig"}
#: Fields of both forms that say where etcd is and how to speak to it.
_ETCD = (
    "datastoreType",
    "etcdEndpoints",
    "etcdScheme",
    "etcdAuthority",
    "etcdUsername",
    "etcdPassword",
    "etcdKeyFile",
    "etcdCertFile",
    "etcdCACertFile",
)
_TYPES = ("etcdv2", "etcdv3")


@dataclass(frozen=True, slots=True)
class Place:
    """The datastore's URL; ``password`` never stands in it."""

    url: str
    password: str = ""

    def __repr__(self) -> str:
        return f"<Place {self.url}>"


def find(path: str | None, env: Mapping[str, str]) -> Place | None:
    """Return where the datastore is, None when nobody says. Raises InvalidConfig, NotPermitted.

    A ``path`` that was given must exist; :data:`DEFAULT_FILE` need not.
    """
    said = _read(Path(path) if path else DEFAULT_FILE, bool(path))
    for name in _ETCD:
        variable = _variable(name)
        if value := env.get(variable) or env.get(f"CALICO_{variable}"):
            said[name] = value
    return _place(said) if said else None


def _variable(name: str) -> str:
    """Return ``etcdCACertFile`` as ``ETCD_CA_CERT_FILE``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=CA)(?=C)", "_", name).upper()


def _read(path: Path, must_exist: bool) -> dict[str, str]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise NotPermitted(f"{path}: may not be read", hint="run it as root") from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not must_exist:
            return {}
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidConfig(f"{path}: {reason}", field="config", value=str(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path}: {error}", field="config", value=str(path)) from None
    try:
        return _parse(data)
    except InvalidConfig as error:
        raise InvalidConfig(
            f"{path}: {error}", field=error.field, value=error.value, hint=error.hint
        ) from None


def _parse(data: Any) -> dict[str, str]:
    fields = Fields(data, "")
    version, kind = fields.take("apiVersion"), fields.take("kind")
    if _FORMS.get(str(version)) != kind:
        raise InvalidConfig(
            f"apiVersion, kind: {version!r}, {kind!r} is no configuration of calicoctl",
            field="apiVersion",
            value=version,
            hint="write apiVersion: projectcalico.org/v3 and kind: CalicoAPIConfig, "
            "or v1 and calicoApiConfig",
        )
    fields.take("metadata")
    spec = Fields(fields.take_map("spec"), "spec")
    fields.done()
    said = {name: text for name in _ETCD if (text := spec.take_str(name))}
    for name, value in spec.rest().items():
        if name in ("etcdKey", "etcdCert", "etcdCACert", "etcdDiscoverySrv"):
            raise InvalidConfig(
                f"spec.{name}: is not read",
                field=f"spec.{name}",
                value="…",
                hint="name files (etcdKeyFile, etcdCertFile, etcdCACertFile) and etcdEndpoints",
            )
        if not name.startswith(("k8s", "kube", "K8s")):
            raise InvalidConfig(
                f"spec.{name}: unknown field",
                field=f"spec.{name}",
                value=value,
                hint=nearest(name, _ETCD),
            )
    return said


def _place(said: Mapping[str, str]) -> Place:
    kind = said.get("datastoreType", "etcdv3")
    if kind == "kubernetes":
        raise InvalidConfig(
            "spec.datastoreType: kubernetes is not there yet",
            field="spec.datastoreType",
            value=kind,
            hint="use etcdv3 and etcdEndpoints",
        )
    if kind not in _TYPES:  # v2's servers are asked by their v3 API
        raise InvalidConfig(
            f"spec.datastoreType: unknown {kind!r}",
            field="spec.datastoreType",
            value=kind,
            hint=nearest(kind, (*_TYPES, "kubernetes")),
        )
    authority = said.get("etcdAuthority", "127.0.0.1:2379")
    listed = said.get("etcdEndpoints") or f"{said.get('etcdScheme', 'http')}://{authority}"
    endpoints = [part.strip() for part in listed.split(",") if part.strip()]
    schemes = {part.partition("://")[0] if "://" in part else "http" for part in endpoints}
    if not schemes <= {"http", "https"} or len(schemes) != 1:
        raise InvalidConfig(
            f"spec.etcdEndpoints: {listed!r} does not begin with http:// or https:// throughout",
            field="spec.etcdEndpoints",
            value=listed,
            hint="e.g. http://192.168.26.100:2379,http://192.168.26.101:2379",
        )
    hosts = ",".join(part.rpartition("://")[2].rstrip("/") for part in endpoints)
    options = {
        "ca": said.get("etcdCACertFile", ""),
        "cert": said.get("etcdCertFile", ""),
        "key": said.get("etcdKeyFile", ""),
    }
    if schemes == {"http"}:
        options = {}  # as calicoctl does: files say nothing where there is no TLS
    options["user"] = said.get("etcdUsername", "")
    query = urllib.parse.urlencode({k: v for k, v in options.items() if v})
    scheme = "etcds" if schemes == {"https"} else "etcd"
    return Place(f"{scheme}://{hosts}{'?' + query if query else ''}", said.get("etcdPassword", ""))
