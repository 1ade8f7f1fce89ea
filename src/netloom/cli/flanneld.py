"""``flanneld``: our agent under flannel's command line, so that a unit or script changes nothing.

Flags are flannel's, with one dash or two. Each is also ``FLANNELD_<NAME>``; the packages' names
(``FLANNEL_ETCD_ENDPOINTS``, ``FLANNEL_ETCD_PREFIX``, ``FLANNEL_OPTIONS``) count as well, from the
environment or from /etc/sysconfig/flanneld. A flag that cannot apply is taken and says why.
``NETLOOM_*`` variables give what flannel has no word for, such as the state directory.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from netloom import __version__
from netloom.cli import flannel_flags as flags
from netloom.cli.settings import load_settings
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

SYSCONFIG = Path("/etc/sysconfig/flanneld")
#: Names that packages of flannel use in their sysconfig file, older ones too.
_PACKAGED = {
    "FLANNEL_ETCD_ENDPOINTS": "etcd-endpoints",
    "FLANNEL_ETCD": "etcd-endpoints",
    "FLANNEL_ETCD_PREFIX": "etcd-prefix",
    "FLANNEL_ETCD_KEY": "etcd-prefix",
}
_PASSWORD = "NETLOOM_ETCD_PASSWORD"  # noqa: S105 - a variable's name
_DEBUG_FROM = 4


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run flannel's command line and leave with an exit code."""
    try:
        sys.exit(run(list(sys.argv[1:] if args is None else args), dict(os.environ)))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # ours to explain, whatever
        from netloom.cli.main import explain

        sys.exit(explain(error))


def run(args: list[str], env: Mapping[str, str], sysconfig: Path = SYSCONFIG) -> int:
    """Read the flags and run the agent until a signal. Raises what the agent's start raises."""
    given = gather(args, env, sysconfig)
    if given.one("help"):
        print(flags.usage())
        return 0
    if given.truth("version"):
        print(f"netloom {__version__}, with flannel's command line")
        return 0
    for note in notes(given):
        print(f"flanneld: {note}", file=sys.stderr)
    if password := given.one("etcd-password"):
        os.environ[_PASSWORD] = password
    from netloom.cli import foreground

    foreground.run(load_settings(settings_of(given, env), env))
    return 0


def gather(args: list[str], env: Mapping[str, str], sysconfig: Path = SYSCONFIG) -> flags.Given:
    """Return what was said: flags before variables before the file. Raises InvalidConfig."""
    filed = _read_sysconfig(sysconfig)
    both = {**filed, **{name: value for name, value in env.items() if value}}
    given = flags.parse([*both.get("FLANNEL_OPTIONS", "").split(), *args])
    known = {flag.env: flag.name for flag in flags.FLAGS}
    for names in (known, _PACKAGED):
        for variable, name in names.items():
            if variable in both and name not in given.values:
                given.add(name, both[variable], variable)
    return given


def settings_of(given: flags.Given, env: Mapping[str, str]) -> dict[str, object]:
    """Return our settings' values by name. Raises InvalidConfig."""
    wanted: dict[str, object] = {"datastore": datastore(given)}
    if choice := interface(given):
        wanted["interface"] = choice
    if file := given.one("subnet-file"):
        wanted["subnet_file"] = file
    elif not env.get("NETLOOM_SUBNET_FILE"):
        wanted["subnet_file"] = flags.BY_NAME["subnet-file"].default
    port = given.number("healthz-port")
    if port:
        host = given.one("healthz-ip") or "0.0.0.0"
        wanted["metrics_listen"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if "iptables-forward-rules" in given.values:
        wanted["forward_rules"] = given.truth("iptables-forward-rules")
    if given.number("v") >= _DEBUG_FROM:
        wanted["log_level"] = "debug"
    return wanted


def datastore(given: flags.Given) -> str:
    """Return our datastore's URL for flannel's etcd flags. Raises InvalidConfig."""
    if given.truth("kube-subnet-mgr"):
        raise InvalidConfig(
            "-kube-subnet-mgr: leases from Kubernetes cannot be had yet",
            field="-kube-subnet-mgr",
            hint="leave it out and name an etcd with -etcd-endpoints",
        )
    text = given.one("etcd-endpoints") or flags.DEFAULT_ENDPOINTS
    origin = given.origin("etcd-endpoints")
    places, schemes = [], set()
    for endpoint in filter(None, (part.strip() for part in text.split(","))):
        scheme, separator, place = endpoint.partition("://")
        if not separator or scheme not in ("http", "https"):
            raise InvalidConfig(
                f"{origin}: {endpoint!r} has "
                + (f"the wrong scheme {scheme!r}" if separator else "no scheme"),
                field=origin,
                value=endpoint,
                hint=f"write http://{place or endpoint} or, with TLS, https://{place or endpoint}",
            )
        schemes.add(scheme)
        places.append(place.rstrip("/"))
    if len(schemes) != 1:
        raise InvalidConfig(
            f"{origin}: endpoints with TLS and without, or none at all: {text!r}",
            field=origin,
            value=text,
            hint="give all of them http:// or all of them https://",
        )
    options = {"format": "flannel", "prefix": given.one("etcd-prefix") or "/coreos.com/network"}
    options["ipmasq"] = str(given.truth("ip-masq")).lower()
    secure = schemes == {"https"}
    for flag, option in (("etcd-cafile", "ca"), ("etcd-certfile", "cert"), ("etcd-keyfile", "key")):
        if secure and given.one(flag):
            options[option] = given.one(flag)
    if given.one("etcd-username"):
        options["user"] = given.one("etcd-username")
    query = urllib.parse.urlencode(options, safe="/.:")
    return f"{'etcds' if secure else 'etcd'}://{','.join(places)}?{query}"


def interface(given: flags.Given) -> str:
    """Return the choice of the underlay's interface, "" for that of the default route."""
    parts = [f"interface={name}" for name in given.values.get("iface", ())]
    parts += [f"regex={pattern}" for pattern in given.values.get("iface-regex", ())]
    if target := given.one("iface-can-reach"):
        parts.append(f"can-reach={target}")
    parts += [
        f"public={given.one(name)}" for name in ("public-ip", "public-ipv6") if given.one(name)
    ]
    return ";".join(parts)


def notes(given: flags.Given) -> list[str]:
    """Return what is to be said of flags that cannot apply."""
    said = []
    for flag in flags.FLAGS:
        if flag.void and flag.name in given.values and given.one(flag.name) != flag.default:
            said.append(f"{given.origin(flag.name)} does not apply: {flag.void}")
    tls = [name for name in ("etcd-cafile", "etcd-certfile", "etcd-keyfile") if given.one(name)]
    if tls and not (given.one("etcd-endpoints") or "").startswith("https"):
        named = " and ".join(f"-{name}" for name in tls)
        said.append(f"{named} does not apply: the endpoints are http://, without TLS")
    return said


def _read_sysconfig(path: Path) -> dict[str, str]:
    """Return the file's variables, as systemd's EnvironmentFile= reads them; absent is empty."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith(("#", ";")):
            found[name.strip()] = value.strip().strip("\"'")
    for name, value in found.items():
        known = (*_PACKAGED, "FLANNEL_OPTIONS", *(flag.env for flag in flags.FLAGS))
        if name.startswith("FLANNEL") and name not in known:
            raise InvalidConfig(
                f"{path}: {name}: unknown variable",
                field=name,
                value=value,
                hint=nearest(name, known),
            )
    return found


if __name__ == "__main__":
    main()
